"""TensorRT-RTX: builds engines for the compute capabilities in the configuration, with or without a GPU; running them
needs an RTX GPU.

A variant of `enginewright.runtimes.tensorrt`, not a fork: the same builder and the same engine take its module. It has
neither precision flags nor calibrators nor a timing cache, and it knows SM 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1 (no Orin,
H100 or Thor).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, cast

import numpy.typing as npt

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, Precision
from enginewright.errors import RuntimeUnavailable, StaleArtifact
from enginewright.runtimes.base import BuiltEngine, Engine, Runtime, Task
from enginewright.runtimes.tensorrt.bindings import Bindings, import_bindings
from enginewright.runtimes.tensorrt.device import read_gpu
from enginewright.target import TargetFingerprint

Array = npt.NDArray[Any]
NO_CALIBRATOR = "TensorRT-RTX has no calibrator; set calibration.runtime=onnxruntime"


def import_rtx() -> Bindings:
    """Import TensorRT-RTX. Raises RuntimeUnavailable: it is not installed, or one of its libraries is missing."""
    return import_bindings("tensorrt_rtx", "`make rtx` installs it", "run `make rtx` again")


class TensorRtRtx:
    """See `enginewright.runtimes.base.Runtime`."""

    name = "tensorrt_rtx"
    engine_file = "engine.trt"

    def why_not(self, task: Task) -> Optional[str]:
        """None if `task` works on this machine, else one sentence with the remedy. Never raises."""
        if task is Task.calibrate:
            return NO_CALIBRATOR
        try:
            import_rtx()
            if task is Task.run:
                read_gpu()
        except RuntimeUnavailable as fault:
            return f"running TensorRT-RTX engines needs an RTX GPU: {fault}" if task is Task.run else str(fault)
        return None

    def fingerprint(self, settings: Build) -> TargetFingerprint:
        """What engines built with `settings` are for: the GPUs named there, whatever GPU is here. Raises
        RuntimeUnavailable.
        """
        capabilities = ", ".join(settings.compute_capabilities)
        return TargetFingerprint(
            f"compute capability {capabilities}", capabilities, self.name, import_rtx().__version__
        )

    def calibrator(self) -> Mapping[str, str]:
        """It has none."""
        return {}

    def calibrate(
        self, onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration
    ) -> CalibrationCache:
        """It cannot. Raises RuntimeUnavailable."""
        del onnx_model, batches, settings
        raise RuntimeUnavailable(NO_CALIBRATOR)

    def build(
        self,
        onnx_model: Path,
        precision: Precision,
        settings: Build,
        recipe: Optional[QuantizationRecipe],
        floats: Collection[str] = (),
    ) -> BuiltEngine:
        """Build for `settings.compute_capabilities`. Raises CalibrationMismatch, ConfigError, ModelError,
        RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.builder import Job, build_engine

        job = Job(
            onnx_model,
            precision,
            settings,
            self.fingerprint(settings),
            settings.compute_capabilities,
            floats=tuple(floats),
            inspect=False,
        )
        return build_engine(import_rtx(), job, recipe)

    def load(self, engine: Path) -> Engine:
        """Verify the sidecar, that this GPU is one of those that the engine was built for, and deserialize. Raises
        StaleArtifact, RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.engine import load_engine

        if why := self.why_not(Task.run):
            raise RuntimeUnavailable(why)
        gpu, rtx, made = read_gpu(), import_rtx(), manifest.read(engine)
        if made.target is None or gpu.compute_capability not in (made.target.compute_capability or "").split(", "):
            built_for = made.target.device if made.target else "nothing named"
            raise StaleArtifact(
                f"{engine} cannot be used on this machine: it was built for {built_for} and this GPU, {gpu.name}, has"
                f" {gpu.compute_capability}; add it to build.compute_capabilities and run `dvc repro {made.made_by}`"
            )
        return load_engine(
            cast(ModuleType, rtx),
            engine,
            dataclasses.replace(made.target, runtime=self.name, runtime_version=rtx.__version__),
        )


RUNTIME: Runtime = TensorRtRtx()
