"""The engines of a project as the build stages left them: what is there, what is not and why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.config import Precision
from enginewright.errors import ModelError, StaleArtifact
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.manifest import Manifest
from enginewright.results.builds import BuildOutcome
from enginewright.results.origin import Origin
from enginewright.runtimes import get_runtime, runtime_named
from enginewright.runtimes.base import Capability, Runtime, TimedEngine
from enginewright.runtimes.checked import require_engines, require_same_inputs
from enginewright.target import TargetFingerprint

# FP32 as ONNX Runtime computes it, where no FP32 engine was asked for or none could be built.
STAND_IN, STAND_IN_FILE = "onnxruntime", "reference.onnx"


@dataclass(frozen=True)
class SealedEngine:
    """A verified engine file and the backend that runs it."""

    runtime: Runtime
    path: Path
    made: Manifest

    def load(self) -> TimedEngine:
        """Take its memory; use it in a `with` block. Raises StaleArtifact, RuntimeUnavailable."""
        return self.runtime.load(self.path)


@dataclass(frozen=True)
class Engines:
    """What the build stages of one project left, for one target."""

    built: Mapping[Precision, SealedEngine]  # FP32 first
    missing: Mapping[Precision, BuildOutcome]
    stand_in: Optional[SealedEngine] = None  # of FP32; only where FP32 is missing

    @property
    def files(self) -> list[Path]:
        """The engines that were built, for manifests."""
        return [engine.path for engine in self.built.values()]

    @property
    def manifests(self) -> dict[Precision, Manifest]:
        """Of each engine that was built."""
        return {precision: engine.made for precision, engine in self.built.items()}

    @property
    def interface(self) -> Interface:
        """What all of them take and give. Raises StaleArtifact if a sidecar does not say so."""
        fp32 = self.to_judge()[Precision.fp32]
        if fp32.made.usage.interface is None:
            raise StaleArtifact(f"the sidecar of {fp32.path} names no inputs and outputs; run `dvc repro -f export`")
        return fp32.made.usage.interface

    def to_judge(self) -> dict[Precision, SealedEngine]:
        """The engines for a comparison with FP32, which comes first: the target's, or what stands in for it.

        Raises:
            ModelError: there is no FP32 of either kind.
        """
        fp32 = self.built.get(Precision.fp32, self.stand_in)
        if fp32 is None:
            raise ModelError(f"there is no FP32 to judge the engines against: {self.missing[Precision.fp32].says()}")
        return {Precision.fp32: fp32, **self.built}


def open_engines(target: TargetFingerprint, paths: Layout) -> Engines:
    """Verify the engines of a project before they are measured side by side, and read why others are missing.

    Raises:
        StaleArtifact: an engine or a record is not whole, not of its folder, of this target or of the same model.
        ModelError: no engine was built.
        RuntimeUnavailable: the target's runtime cannot run engines here.
    """
    runtime = get_runtime(target.runtime, Capability.run)
    missing = {precision: outcome for precision in Precision if (outcome := _why_missing(paths, precision, target))}
    if len(missing) == len(Precision):
        raise ModelError("no engine was built: " + "; ".join(outcome.says() for outcome in missing.values()))
    files = {
        precision: paths.engine(precision.value, runtime.engine_file)
        for precision in Precision
        if precision not in missing
    }
    made = require_engines(files, target)
    built = {precision: SealedEngine(runtime, path, made[precision]) for precision, path in files.items()}
    stand_in = _stand_in(paths) if Precision.fp32 in missing else None
    if stand_in is not None:
        require_same_inputs({engine.path: engine.made for engine in (*built.values(), stand_in)})
    return Engines(built, missing, stand_in)


def origin_of(made: Manifest, target: TargetFingerprint, images: Iterable[Path] = ()) -> Origin:
    """What figures of an engine are of: the model that it was built from, the target, and the images' sealed files."""
    digests = [manifest.read(path).sha256 for path in images]
    of_images = hashlib.sha256("".join(digests).encode()).hexdigest() if digests else None
    return Origin(target.identity(), made.inputs.get(Layout().model.as_posix()), of_images)


def _why_missing(paths: Layout, precision: Precision, target: TargetFingerprint) -> Optional[BuildOutcome]:
    record = paths.build_record(precision.value)
    if not record.exists() and not manifest.sidecar(record).exists():
        return None  # there is an engine, or its absence is a fault
    made = manifest.verify(record, target)
    try:
        return BuildOutcome.from_json(json.loads(record.read_text()))
    except (ValueError, KeyError, TypeError):
        raise StaleArtifact(f"{record} is no record of a build; run `dvc repro -f {made.made_by}`") from None


def _stand_in(paths: Layout) -> Optional[SealedEngine]:
    path = paths.engine(Precision.fp32.value, STAND_IN_FILE)
    if not path.exists() and not manifest.sidecar(path).exists():
        return None
    runtime = runtime_named(STAND_IN)
    return SealedEngine(runtime, path, manifest.verify(path, runtime.fingerprint()))
