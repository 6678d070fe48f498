"""ONNX Runtime on the CPU: the embedded default, and the portable calibrator. Owns the package onnxruntime."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from enginewright.errors import RuntimeUnavailable
from enginewright.feeds import Feeds
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability, LoadOptions, Runtime
from enginewright.target import TargetFingerprint, cpu_name, instruction_sets

if TYPE_CHECKING:
    from enginewright.calibration.cache import CalibrationCache
    from enginewright.calibration.correction import BiasCorrection
    from enginewright.calibration.ranges import TensorRange
    from enginewright.config import Calibration
    from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine

INSTALL = "pip install 'enginewright[host]'"


class OnnxRuntime(Runtime):
    """FP32, FP16 and INT8 on the CPU. FP16 saves memory, not time: most CPUs compute it through FP32."""

    name = "onnxruntime"
    engine_file = "engine.onnx"

    def obstacle(self, capability: Capability) -> Optional[str]:
        """None, or that the package is missing."""
        del capability
        installed = importlib.util.find_spec("onnxruntime")
        return None if installed else f"the package onnxruntime is not installed; {INSTALL}"

    def fingerprint(self) -> TargetFingerprint:
        """The CPU, its instruction sets that decide kernels, and ONNX Runtime's version. Raises RuntimeUnavailable."""
        return TargetFingerprint(
            cpu_name(), None, self.name, self._stated_version(), instruction_sets=instruction_sets()
        )

    def calibrate(self, model: Path, feeds: Iterable[Feeds], settings: Calibration) -> CalibrationCache:
        """Choose one scale for each float tensor of the model, by ONNX Runtime's own calibrators
        (`enginewright.runtimes.onnxruntime.calibrator`).
        """
        from enginewright.runtimes.onnxruntime.calibrator import calibrate

        self._version()
        return calibrate(model, feeds, settings)

    def observe(self, model: Path, feeds: Iterable[Feeds], cache: CalibrationCache) -> dict[str, TensorRange]:
        """Run every batch and say what the scales of a cache, whoever made it, do to each tensor's values. Raises
        RuntimeUnavailable.
        """
        from enginewright.runtimes.onnxruntime.calibrator import observe

        self._version()
        return observe(model, feeds, cache)

    def bias_correction(self, model: Path, feeds: Iterable[Feeds]) -> BiasCorrection:
        """What INT8 weights add to each layer's output on average (`enginewright.graph.bias`). Raises
        CalibrationMismatch, RuntimeUnavailable.
        """
        from enginewright.runtimes.onnxruntime.calibrator import bias_correction

        self._version()
        return bias_correction(model, feeds)

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """See `enginewright.runtimes.onnxruntime.builder`."""
        from enginewright.runtimes.onnxruntime.builder import build

        return build(model, job, self._version())

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> OnnxRuntimeEngine:
        """Verify the sidecar, then open a session. Raises StaleArtifact, RuntimeUnavailable."""
        from enginewright.runtimes.onnxruntime.engine import load

        self._version()
        return load(engine, self.fingerprint(), options or LoadOptions())

    def _stated_version(self) -> str:
        """What `_version` returns, read from the package's source: loading its library would make every `dvc repro`
        wait for the probe.
        """
        spec = importlib.util.find_spec("onnxruntime")
        source = Path(spec.origin).read_text() if spec and spec.origin else ""
        stated = re.search(r"^__version__ = ['\"](.+)['\"]", source, re.MULTILINE)
        return stated.group(1) if stated else self._version()

    def _version(self) -> str:
        try:
            import onnxruntime
        except ImportError as fault:
            raise RuntimeUnavailable(f"onnxruntime cannot be imported ({fault}); {INSTALL}") from None
        return str(onnxruntime.__version__)


RUNTIME = OnnxRuntime()
