"""TensorRT 8.6 to 11: builder, calibrators and engines, choosing by what the API has.

`builder` and `calibrator` make engines and calib.cache, `engine` runs them; each imports TensorRT and PyCUDA on first
use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, cast

import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, Precision
from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.base import BuiltEngine, Engine, Runtime, Task
from enginewright.runtimes.tensorrt.bindings import import_tensorrt
from enginewright.runtimes.tensorrt.device import read_gpu
from enginewright.target import TargetFingerprint, l4t_release

Array = npt.NDArray[Any]


class TensorRt:
    """See `enginewright.runtimes.base.Runtime`."""

    name = "tensorrt"
    engine_file = "engine.trt"

    def why_not(self, task: Task) -> Optional[str]:
        """None if `task` works on this machine, else one sentence with the remedy. Never raises."""
        from enginewright.runtimes.tensorrt.calibrator import CLASSES, GONE

        try:
            trt = import_tensorrt()
            read_gpu()
            if task is Task.calibrate and not all(hasattr(trt, name) for name in CLASSES.values()):
                return GONE
            if task is not Task.build:
                from enginewright.runtimes.tensorrt.memory import driver

                driver()
        except RuntimeUnavailable as fault:
            return str(fault)
        return None

    def fingerprint(self, settings: Build) -> TargetFingerprint:  # noqa: ARG002 - an engine is for its GPU
        """This machine: GPU, TensorRT, CUDA, driver, Jetson Linux. Raises RuntimeUnavailable."""
        trt, gpu = import_tensorrt(), read_gpu()
        return TargetFingerprint(
            gpu.name, gpu.compute_capability, self.name, trt.__version__, gpu.cuda, gpu.driver, l4t_release()
        )

    def calibrator(self) -> Mapping[str, str]:
        """A cache of TensorRT's own calibrators is tied to its version. Raises RuntimeUnavailable."""
        return {"tensorrt": import_tensorrt().__version__}

    def calibrate(
        self, onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration
    ) -> CalibrationCache:
        """Run every batch once through TensorRT's calibrator for `settings.algorithm`. Raises CalibrationMismatch,
        ModelError, RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.builder import calibrate

        return calibrate(import_tensorrt(), onnx_model, batches, settings)

    def build(
        self,
        onnx_model: Path,
        precision: Precision,
        settings: Build,
        recipe: Optional[QuantizationRecipe],
        floats: Collection[str] = (),
    ) -> BuiltEngine:
        """Build for the GPU that is here, with its timing cache. Raises CalibrationMismatch, ConfigError, ModelError,
        RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.builder import Job, build_engine
        from enginewright.runtimes.tensorrt.timing_cache import TimingCache

        target = self.fingerprint(settings)
        job = Job(
            onnx_model,
            precision,
            settings,
            target,
            floats=tuple(floats),
            timing_cache=TimingCache(Path(settings.timing_cache), target),
        )
        return build_engine(import_tensorrt(), job, recipe)

    def load(self, engine: Path) -> Engine:
        """Verify the sidecar, then deserialize. Raises StaleArtifact before any device memory is taken,
        RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.engine import load_engine

        if why := self.why_not(Task.run):
            raise RuntimeUnavailable(why)
        return load_engine(cast(ModuleType, import_tensorrt()), engine, self.fingerprint(Build()))


RUNTIME: Runtime = TensorRt()
