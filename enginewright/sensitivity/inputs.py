"""What both stages start from: the checked model, its scales, and the sensitivity images."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Optional

import numpy as np

from enginewright import manifest
from enginewright._version import __version__
from enginewright.accuracy import gate
from enginewright.accuracy.evaluate import Evaluator
from enginewright.calibration.recipe import read_recipe, recipe_files
from enginewright.data import ImageSet
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.runtimes.checked import require_checked
from enginewright.sensitivity.journal import Journal
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.variants import Variants
from enginewright.stage import Stage
from enginewright.target import cpu_name, instruction_sets
from enginewright.tasks import judged, task_of


def inputs(images: ImageSet, paths: Layout) -> list[Path]:
    """The artifacts that the metrics depend on, for manifests."""
    return [paths.model, *recipe_files(paths), *images.files]


def _measured_with() -> list[str]:
    """What else decides a metric: all of our code (no list can miss a module), packages, processor."""
    import onnx
    import onnxruntime

    package = Path(__file__).resolve().parents[1]
    code = [f"{file.relative_to(package)} {manifest.sha256(file)}" for file in sorted(package.rglob("*.py"))]
    versions = [
        __version__,
        platform.python_version(),
        np.__version__,
        onnx.__version__,
        onnxruntime.__version__,
        version("scipy"),
        version("pandas"),
    ]
    return [*code, *versions, cpu_name(), *instruction_sets()]


def open_variants(stage: Stage, rehearsal: Optional[Rehearsal] = None) -> tuple[Variants, Journal]:
    """Verify the artifacts, run FP32, and take up the journal of an interrupted run of this stage on the same ones.

    `rehearsal` is the gate that judges each variant, if one is to.

    Raises:
        StaleArtifact: an artifact is not whole, or not made from the others.
        CalibrationMismatch: the scales are of another model.
        ModelError: check_onnx did not pass the model, or it cannot run.
        DataError: there are labels, and FP32 is no better than always giving the commonest one.
    """
    paths = stage.paths
    require_checked(paths)
    recipe = read_recipe(paths)
    images = ImageSet.open(paths.sensitivity_images)
    preprocessing, model, settings = (
        stage.params.data.preprocessing,
        stage.params.model,
        stage.params.analyze_sensitivity,
    )
    evaluator = Evaluator(task_of(model), images, preprocessing, settings.batch_size, shows_progress=False)
    # The journal knows each Q/DQ model by its bytes; these are what else its figures depend on.
    rest = [
        stage.name,
        repr(preprocessing),
        repr(model),
        repr(settings.batch_size),
        repr(settings.placement),
        repr(rehearsal),
    ]
    rest += [manifest.sha256(path) for path in inputs(images, paths)]
    journal = Journal(
        paths.cache
        / "sensitivity"
        / f"{hashlib.sha256(chr(10).join([*rest, *_measured_with()]).encode()).hexdigest()[:32]}.jsonl"
    )
    if len(journal):
        print(f"{stage.name}: goes on after {len(journal)} models that an interrupted run measured", flush=True)
    if journal.dropped:
        print(
            f"{stage.name}: {journal.dropped} lines of its journal are not as they were written; these models are"
            " measured again",
            flush=True,
        )
    outputs = [spec.name for spec in judged(model, Interface.from_file(paths.model)).outputs]
    variants = Variants(paths.model, recipe, evaluator, outputs, journal, settings.placement)
    variants.rehearsal = rehearsal
    if stage.params.accuracy.require_signal:
        gate.require_signal(variants.task, variants.evaluated, variants.targets, stage.params.accuracy.confidence)
    return variants, journal
