"""A runtime that answers at once: what remains of a measurement with it is our own overhead (as MLPerf's
backend_null).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Optional

from enginewright._version import __version__
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability, LoadOptions, Runtime
from enginewright.target import TargetFingerprint, cpu_name

if TYPE_CHECKING:
    from enginewright.runtimes.null.engine import NullEngine


class Null(Runtime):
    """Builds the shapes of a model's inputs and outputs, and answers zeros of these shapes."""

    name = "null"
    engine_file = "engine.null"
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.calibrate: "the null runtime computes nothing, so it sees no ranges; set"
        " calibration.runtime=onnxruntime"
    }

    def fingerprint(self) -> TargetFingerprint:
        """This machine's CPU and our own version."""
        return TargetFingerprint(cpu_name(), None, self.name, __version__)

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """Return names, dtypes and shapes of the model's inputs and outputs as JSON. Raises ModelError."""
        from enginewright.runtimes.null.builder import build

        return build(model, job)

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> NullEngine:
        """Verify the sidecar, then read the shapes. Raises StaleArtifact."""
        from enginewright.runtimes.null.engine import load

        del options
        return load(engine, self.fingerprint())


RUNTIME = Null()
