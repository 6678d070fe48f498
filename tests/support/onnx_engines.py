"""Engines of ONNX Runtime around the tiny residual network."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.target import TargetFingerprint
from support.calibrated import plain_recipe
from support.networks import images

SETTINGS = Build()
AXES = batches(1, 2, 3)


def build(model: Path, precision: Precision) -> BuiltEngine:
    """Calibrate, if need be, and build."""
    cache: Optional[CalibrationCache] = None
    if precision in (Precision.int8, Precision.int8_mixed):
        cache = RUNTIME.calibrate(model, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))
    return RUNTIME.build(model, BuildJob(precision, SETTINGS, plain_recipe(cache), axes=AXES))


def sealed(model: Path, precision: Precision, target: Optional[TargetFingerprint] = None) -> Path:
    """Build, and lay the engine and its sidecar beside the model."""
    built = build(model, precision)
    engine = model.with_name(RUNTIME.engine_file)
    engine.write_bytes(built.engine_bytes)
    manifest.seal(engine, "build", [model], target or RUNTIME.fingerprint(), built.settings)
    return engine
