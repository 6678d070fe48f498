"""ONNX Runtime on the CPU: the embedded default, and the portable calibrator. Owns the package onnxruntime."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from enginewright.feeds import Feeds
from enginewright.plugins import NO_PLUGINS, PORTABLE, Plugins
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability, LoadOptions, Runtime
from enginewright.runtimes.onnxruntime.session import installed_version, why_absent
from enginewright.target import TargetFingerprint, cpu_name, instruction_sets

if TYPE_CHECKING:
    from enginewright.calibration.cache import CalibrationCache
    from enginewright.config import Calibration
    from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine


class OnnxRuntime(Runtime):
    """FP32, FP16 and INT8 on the CPU. FP16 saves memory, not time: most CPUs compute it through FP32."""

    name = "onnxruntime"
    engine_file = "engine.onnx"
    plugin_kinds = PORTABLE

    def obstacle(self, capability: Capability) -> Optional[str]:
        """None, or that the package is missing."""
        del capability
        return why_absent()

    def fingerprint(self) -> TargetFingerprint:
        """The CPU, its instruction sets that decide kernels, and ONNX Runtime's version. Raises RuntimeUnavailable."""
        return TargetFingerprint(
            cpu_name(), None, self.name, self._stated_version(), instruction_sets=instruction_sets()
        )

    def calibrate(
        self, model: Path, feeds: Iterable[Feeds], settings: Calibration, plugins: Plugins = NO_PLUGINS
    ) -> CalibrationCache:
        """Choose one scale for each float tensor of the model, by ONNX Runtime's own calibrators
        (`enginewright.runtimes.onnxruntime.calibrator`).
        """
        from enginewright.runtimes.onnxruntime.calibrator import calibrate

        return calibrate(model, feeds, settings, plugins)

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """See `enginewright.runtimes.onnxruntime.builder`."""
        from enginewright.runtimes.onnxruntime.builder import build

        return build(model, job, installed_version())

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> OnnxRuntimeEngine:
        """Verify the sidecar, then open a session. Raises StaleArtifact, RuntimeUnavailable."""
        from enginewright.runtimes.onnxruntime.engine import load

        installed_version()
        return load(engine, self.fingerprint(), options or LoadOptions())

    def _stated_version(self) -> str:
        """The installed version, read from the package's source: loading its library would make every `dvc repro` wait
        for the probe.
        """
        spec = importlib.util.find_spec("onnxruntime")
        source = Path(spec.origin).read_text() if spec and spec.origin else ""
        stated = re.search(r"^__version__ = ['\"](.+)['\"]", source, re.MULTILINE)
        return stated.group(1) if stated else installed_version()


RUNTIME = OnnxRuntime()
