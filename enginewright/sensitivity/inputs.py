"""What both stages start from: the checked model, its scales, and the sensitivity images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from enginewright import __version__, artifacts, manifest
from enginewright.accuracy.evaluate import Evaluator
from enginewright.accuracy.tasks import get_task
from enginewright.calibration.cache import calibration_files, read_calibration
from enginewright.data import ImageSet
from enginewright.runtimes.checked import require_checked
from enginewright.sensitivity.journal import FOLDER, Journal
from enginewright.sensitivity.variants import Variants
from enginewright.stage import Stage


def inputs(images: ImageSet) -> list[Path]:
    """The artifacts that the figures hang on, for manifests."""
    return [artifacts.MODEL, *calibration_files(), *images.files]


def open_variants(stage: Stage) -> tuple[Variants, Journal]:
    """Verify the artifacts, run FP32, and take up the journal of an interrupted run of this stage on the same ones.

    Raises:
        StaleArtifact: an artifact is not whole, or not made from the others.
        CalibrationMismatch: the scales are of another model.
        ModelError: check_onnx did not pass the model, or it cannot run.
    """
    require_checked(artifacts.MODEL)
    cache = read_calibration(artifacts.MODEL)
    images = ImageSet.open(artifacts.SENSITIVITY_IMAGES)
    preprocessing, model, settings = stage.params.data.preprocessing, stage.params.model, stage.params.analyze_sensitivity
    evaluator = Evaluator(get_task(model.task), images, preprocessing, settings.batch_size, shows_progress=False)
    # The journal knows each Q/DQ model by its bytes; these are what else its figures hang on.
    rest = [__version__, stage.name, repr(preprocessing), repr(model), *(manifest.sha256(path) for path in inputs(images))]
    journal = Journal(FOLDER / f"{hashlib.sha256(chr(10).join(rest).encode()).hexdigest()[:16]}.jsonl")
    if len(journal):
        print(f"{stage.name}: goes on after {len(journal)} models that an interrupted run measured", flush=True)
    return Variants(artifacts.MODEL, cache, evaluator, model.output_name, journal, settings.placement), journal
