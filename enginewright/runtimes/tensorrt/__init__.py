"""TensorRT 8.6 to 11: builder, calibrators and engines, choosing by what the API has.

`builder` and `calibrator` make engines and calib.cache, `engine` runs them; each imports TensorRT and PyCUDA on first
use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from enginewright.errors import RuntimeUnavailable
from enginewright.feeds import Feeds
from enginewright.plugins import NO_PLUGINS, TENSORRT, Plugins
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability, LoadOptions, Runtime
from enginewright.runtimes.tensorrt.bindings import import_tensorrt
from enginewright.runtimes.tensorrt.device import read_gpu
from enginewright.target import TargetFingerprint, l4t_release

if TYPE_CHECKING:
    from enginewright.calibration.cache import CalibrationCache
    from enginewright.config import Calibration
    from enginewright.runtimes.tensorrt.engine import TensorRTEngine


class TensorRt(Runtime):
    """See `enginewright.runtimes.base.Runtime`."""

    name = "tensorrt"
    engine_file = "engine.trt"
    plugin_kinds = (TENSORRT,)

    def obstacle(self, capability: Capability) -> Optional[str]:
        """A GPU, its driver, PyCUDA, or calibrators that this TensorRT has no more."""
        try:
            trt = import_tensorrt()
            read_gpu()
            if capability is Capability.calibrate:
                from enginewright.runtimes.tensorrt.calibrator import CLASSES, GONE

                if not all(hasattr(trt, name) for name in CLASSES.values()):
                    return GONE
            if capability is not Capability.build:
                from enginewright.runtimes.tensorrt.memory import driver

                driver()
        except RuntimeUnavailable as fault:
            return str(fault)
        return None

    def fingerprint(self) -> TargetFingerprint:
        """This machine: GPU, TensorRT, CUDA, driver, Jetson Linux. Raises RuntimeUnavailable."""
        trt, gpu = import_tensorrt(), read_gpu()
        return TargetFingerprint(
            gpu.name, gpu.compute_capability, self.name, trt.__version__, gpu.cuda, gpu.driver, l4t_release()
        )

    def calibrator_identity(self) -> Mapping[str, str]:
        """A cache of TensorRT's own calibrators is tied to its version. Raises RuntimeUnavailable."""
        return {"tensorrt": import_tensorrt().__version__}

    def calibrate(
        self, model: Path, feeds: Iterable[Feeds], settings: Calibration, plugins: Plugins = NO_PLUGINS
    ) -> CalibrationCache:
        """Run every batch once through TensorRT's calibrator for `settings.algorithm`. Raises CalibrationMismatch,
        ModelError, RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.calibrator import calibrate

        return calibrate(import_tensorrt(), model, feeds, settings, plugins)

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """Build for the GPU that is here, with its timing cache. Raises CalibrationMismatch, ConfigError, ModelError,
        RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.builder import Job, build_engine
        from enginewright.runtimes.tensorrt.timing_cache import TimingCache

        here = self.fingerprint()
        timings = TimingCache(Path(job.settings.timing_cache), here)
        return build_engine(import_tensorrt(), Job(model, job, here, timing_cache=timings))

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> TensorRTEngine:
        """Verify the sidecar, then deserialize. Raises StaleArtifact before any device memory is taken,
        RuntimeUnavailable.
        """
        from enginewright.runtimes.tensorrt.engine import load_engine

        if why := self.why_not(Capability.run):
            raise RuntimeUnavailable(why)
        return load_engine(import_tensorrt(), engine, self.fingerprint(), options)


RUNTIME = TensorRt()
