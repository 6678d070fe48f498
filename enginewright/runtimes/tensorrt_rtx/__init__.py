"""TensorRT-RTX: builds engines for the compute capabilities in the configuration, with or without a GPU; running them
needs an RTX GPU.

A variant of `enginewright.runtimes.tensorrt`, not a fork: the same builder and the same engine take its module. It has
neither precision flags nor calibrators nor a timing cache, and it knows SM 7.5, 8.0, 8.6, 8.9, 12.0 and 12.1 (no Orin,
H100 or Thor).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Optional

from enginewright import manifest
from enginewright.errors import RuntimeUnavailable, StaleArtifact
from enginewright.plugins import TENSORRT
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability, LoadOptions, Runtime
from enginewright.runtimes.tensorrt.bindings import Bindings, import_bindings
from enginewright.runtimes.tensorrt.device import read_gpu
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    from enginewright.config import Build
    from enginewright.runtimes.tensorrt.engine import TensorRTEngine

NO_CALIBRATOR = "TensorRT-RTX has no calibrator; set calibration.runtime=onnxruntime"


def import_rtx() -> Bindings:
    """Import TensorRT-RTX. Raises RuntimeUnavailable: it is not installed, or one of its libraries is missing."""
    return import_bindings("tensorrt_rtx", "`make rtx` installs it", "run `make rtx` again")


class TensorRtRtx(Runtime):
    """See `enginewright.runtimes.base.Runtime`."""

    name = "tensorrt_rtx"
    engine_file = "engine.trt"
    plugin_kinds = (TENSORRT,)
    lacks: ClassVar[Mapping[Capability, str]] = {Capability.calibrate: NO_CALIBRATOR}

    def obstacle(self, capability: Capability) -> Optional[str]:
        """The package, or a GPU to run on."""
        runs = capability is Capability.run
        try:
            import_rtx()
            if runs:
                read_gpu()
        except RuntimeUnavailable as fault:
            return f"running TensorRT-RTX engines needs an RTX GPU: {fault}" if runs else str(fault)
        return None

    def fingerprint(self) -> TargetFingerprint:
        """The GPU that is here. Raises RuntimeUnavailable."""
        gpu = read_gpu()
        return TargetFingerprint(gpu.name, gpu.compute_capability, self.name, import_rtx().__version__)

    def target_for(self, settings: Build) -> TargetFingerprint:
        """The GPUs that `settings` names, whatever GPU is here. Raises RuntimeUnavailable."""
        capabilities = ", ".join(settings.compute_capabilities)
        return TargetFingerprint(
            f"compute capability {capabilities}", capabilities, self.name, import_rtx().__version__
        )

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """Build for the compute capabilities of the settings. Raises CalibrationMismatch, ConfigError, ModelError,
        RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.builder import Job, build_engine

        target, capabilities = self.target_for(job.settings), job.settings.compute_capabilities
        return build_engine(import_rtx(), Job(model, job, target, capabilities, inspect=False))

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> TensorRTEngine:
        """Verify the sidecar, that this GPU is one of those that the engine was built for, and deserialize. Raises
        StaleArtifact, RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.engine import load_engine

        if why := self.why_not(Capability.run):
            raise RuntimeUnavailable(why)
        here, made = self.fingerprint(), manifest.read(engine)
        if made.target is None or here.compute_capability not in (made.target.compute_capability or "").split(", "):
            built_for = made.target.device if made.target else "nothing named"
            raise StaleArtifact(
                f"{engine} cannot be used on this machine: it was built for {built_for} and this GPU, {here.device},"
                f" has {here.compute_capability}; add it to build.compute_capabilities and run"
                f" `dvc repro {made.made_by}`"
            )
        allowed = dataclasses.replace(made.target, runtime=self.name, runtime_version=here.runtime_version)
        return load_engine(import_rtx(), engine, allowed, options)


RUNTIME = TensorRtRtx()
