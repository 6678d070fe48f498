"""Images and a checked model to INT8 scales: what the stage `calibrate` runs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from enginewright.calibration import ranges
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.recipe import CORRECTED_BY, DECODED_BY, decoding_bytes
from enginewright.config import Model, Params
from enginewright.data import Feeding, ImageSet
from enginewright.errors import RuntimeUnavailable, StaleArtifact
from enginewright.feeds import Feeds
from enginewright.graph import stored
from enginewright.graph.decoding import decoding
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.results.calibration import CalibrationResult
from enginewright.runtimes import AUTO, get_runtime
from enginewright.runtimes.base import Capability, Runtime
from enginewright.runtimes.checked import require_checked
from enginewright.runtimes.kernels import calibrator_identity, for_runtime
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.observe import observe
from enginewright.runtimes.onnxruntime.session import why_absent
from enginewright.target import WHY_NOT
from enginewright.tasks import judged, task_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Calibrated:
    """Scales, the bias correction if one was asked for, and what the images look like through them."""

    scales: CalibrationCache
    correction: Optional[BiasCorrection]
    float_decoding: tuple[str, ...]  # nodes that stay in float whatever their scales (`enginewright.graph.decoding`)
    ranges: pd.DataFrame  # a row a tensor
    inputs: list[Path]  # what they were made from
    settings: Mapping[str, Any]  # what else decided them
    images: int
    seconds: float

    @property
    def corrected(self) -> dict[str, Any]:
        """What decided the bias correction."""
        return {"images": self.images, "layers": len(self.correction.layers) if self.correction else 0}

    def result(self) -> CalibrationResult:
        """How much was calibrated, how long it took, and what the ranges show."""
        return CalibrationResult(self.images, self.seconds, self.corrected["layers"], ranges.summary(self.ranges))


def calibrate_model(params: Params, paths: Layout) -> Calibrated:
    """Choose one INT8 scale for each activation. The ranges need ONNX Runtime, with kernels for all of it, and
    are empty without.

    Raises:
        StaleArtifact: an input is not whole, or probe_target found another calibrator.
        ModelError: check_onnx did not pass the model.
        RuntimeUnavailable: the calibrator is not here, or a correction is asked for and ONNX Runtime is not.
        CalibrationMismatch: there is no image, or one gives NaN.
    """
    made = require_checked(paths)
    images, settings = ImageSet.open(paths.calibration_images), params.calibration
    runtime = _calibrator(params, paths)
    plugins = for_runtime(runtime, params.model, paths)
    absent = why_absent()
    if settings.bias_correction and absent:
        raise RuntimeUnavailable(
            f"calibration.bias_correction measures with ONNX Runtime: {absent}; or set it to false"
        )

    inputs = Interface.from_onnx(stored.read(paths.model)).inputs

    def feeds() -> Iterator[Feeds]:
        return Feeding(images, params.data.preprocessing).batches(inputs, settings.batch_size)

    start = time.perf_counter()
    scales = runtime.calibrate(paths.model, feeds(), settings, plugins)
    correction = measure_bias_correction(paths.model, feeds()) if settings.bias_correction else None
    seconds = time.perf_counter() - start
    correction = correction if correction is not None and correction.layers else None
    made_with = {"algorithm": settings.algorithm.name, "images": len(images), "runtime": runtime.name}
    made_with.update(runtime.calibrator_identity())
    if correction is not None:
        made_with[CORRECTED_BY] = hashlib.sha256(correction.to_bytes()).hexdigest()
    kept = _float_decoding(params.model, paths)
    if kept:
        made_with[DECODED_BY] = hashlib.sha256(decoding_bytes(kept)).hexdigest()
    seen = {} if absent or "not_compared" in made.settings else observe(paths.model, feeds(), scales)
    return Calibrated(
        scales,
        correction,
        kept,
        ranges.table(scales, seen),
        [paths.model, *images.array_files],
        made_with,
        len(images),
        seconds,
    )


def _float_decoding(model: Model, paths: Layout) -> tuple[str, ...]:
    """The nodes that the model's task keeps out of INT8."""
    if not task_of(model).float_decoding:
        return ()
    proto = stored.read(paths.model)
    answers = judged(model, Interface.from_onnx(proto)).outputs
    return decoding(proto, [spec.name for spec in answers])


def _calibrator(params: Params, paths: Layout) -> Runtime:
    """What probe_target found, if that is still what is configured and installed."""
    wanted, described = params.calibration.runtime, paths.calibrator
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
    if found != calibrator_identity(runtime, params.model, paths) or wanted not in (AUTO, name):
        raise StaleArtifact(
            f"{described} names another calibrator than is configured and installed; run `dvc repro`, which"
            " probes first"
        )
    return runtime
