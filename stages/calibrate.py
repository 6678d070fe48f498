"""calibrate: one INT8 scale for each activation tensor, from real images, into calib.cache."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.calibration import ranges
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.recipe import CORRECTED_BY
from enginewright.data import Feeding, ImageSet
from enginewright.errors import RuntimeUnavailable, StaleArtifact
from enginewright.feeds import Feeds, FloatInput
from enginewright.runtimes import AUTO, get_runtime
from enginewright.runtimes.base import Capability, Runtime
from enginewright.runtimes.checked import require_checked
from enginewright.runtimes.onnxruntime import RUNTIME as OBSERVER
from enginewright.stage import Metrics, Stage, script
from enginewright.target import WHY_NOT


@script
def calibrate(stage: Stage) -> Metrics:
    """Whoever calibrates, the report is made by ONNX Runtime where it is installed."""
    require_checked(stage.paths)
    images = ImageSet.open(stage.paths.calibration_images)
    settings = stage.params.calibration
    runtime = _calibrator(settings.runtime, stage.paths.calibrator)
    absent = OBSERVER.why_not(Capability.run)
    if settings.bias_correction and absent:
        raise RuntimeUnavailable(
            f"calibration.bias_correction measures with ONNX Runtime: {absent}; or set it to false"
        )
    start = time.perf_counter()
    cache = runtime.calibrate(stage.paths.model, _feeds(stage, images), settings)
    correction = BiasCorrection({})
    if settings.bias_correction:
        correction = OBSERVER.bias_correction(stage.paths.model, _feeds(stage, images))
    seconds = time.perf_counter() - start
    _write(stage, cache, images, runtime, _write_correction(stage, correction, images))
    seen = {} if absent else OBSERVER.observe(stage.paths.model, _feeds(stage, images), cache)
    table = ranges.table(cache, seen)
    for sentence in ranges.outlier_sentences(table):
        print(f"calibrate: {sentence}")
    report = ranges.write_report(stage.paths.calibration_cache.parent, settings.algorithm, table)
    return {"images": len(images), "seconds": seconds, "corrected_layers": len(correction.layers), **report}


def _calibrator(wanted: str, described: Path) -> Runtime:
    """What probe_target found, if that is still what is configured and installed."""
    try:
        found = json.loads(described.read_text())
        if WHY_NOT in found:
            raise RuntimeUnavailable(f"{found[WHY_NOT]}; then run `dvc repro`, which probes again")
        name = str(found["runtime"])
    except (OSError, ValueError, KeyError, TypeError):
        raise StaleArtifact(
            f"{described} is missing or no description of a calibrator; run `dvc repro probe_target`"
        ) from None
    runtime = get_runtime(name, Capability.calibrate)
    if found != {"runtime": runtime.name, **runtime.calibrator_identity()} or wanted not in (AUTO, name):
        raise StaleArtifact(
            f"{described} names another calibrator than is configured and installed; run `dvc repro`, which"
            " probes first"
        )
    return runtime


def _feeds(stage: Stage, images: ImageSet) -> Iterator[Feeds]:
    feeding = Feeding(images, stage.params.data.preprocessing)
    return feeding.batches([FloatInput(stage.params.model.input_name)], stage.params.calibration.batch_size)


def _write_correction(stage: Stage, correction: BiasCorrection, images: ImageSet) -> Optional[str]:
    """Write the file and return its sha256; that of an earlier run goes if there is nothing to correct."""
    if not correction.layers:
        for path in (stage.paths.bias_correction, manifest.sidecar(stage.paths.bias_correction)):
            path.unlink(missing_ok=True)
        return None
    with stage.output(
        stage.paths.bias_correction,
        [stage.paths.model, images.files[0]],
        settings={"images": len(images), "layers": len(correction.layers)},
    ) as temporary:
        temporary.write_bytes(correction.to_bytes())
    return manifest.sha256(stage.paths.bias_correction)


def _write(
    stage: Stage, cache: CalibrationCache, images: ImageSet, runtime: Runtime, correction: Optional[str]
) -> None:
    settings = {
        "algorithm": stage.params.calibration.algorithm.name,
        "images": len(images),
        "runtime": runtime.name,
        **runtime.calibrator_identity(),
    }
    if correction:
        settings[CORRECTED_BY] = correction
    with stage.output(
        stage.paths.calibration_cache, [stage.paths.model, images.files[0]], settings=settings
    ) as temporary:
        temporary.write_bytes(cache.to_bytes())


if __name__ == "__main__":
    calibrate()
