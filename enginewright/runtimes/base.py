"""What a runtime offers, and what stages and applications ask of it.

`Engine` is all that an application uses; `Timed` is what a benchmark asks for beside it. `Builder`, `Calibrator` and
`Loader` are the parts of a runtime, and `Runtime` is the class that a member of the registry derives from: it defines
the parts that it has, and what it leaves out refuses in one sentence. Modules of a runtime import its package on first
use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Protocol

import numpy as np
import numpy.typing as npt

from enginewright.config import default_axes
from enginewright.errors import RuntimeUnavailable
from enginewright.feeds import Array, Feeds
from enginewright.interface import Axes, Interface
from enginewright.plugins import NO_PLUGINS, Plugins

if TYPE_CHECKING:
    from enginewright.calibration.cache import CalibrationCache
    from enginewright.calibration.recipe import QuantizationRecipe
    from enginewright.config import Build, Calibration, Precision
    from enginewright.target import TargetFingerprint

Outputs = dict[str, Array]  # output name -> [N, ...]


class Capability(Enum):
    """What a runtime may or may not be able to do on this machine."""

    calibrate = "calibrate"
    build = "build"
    run = "run"


@dataclass(frozen=True)
class BuildJob:
    """What is built of a model."""

    precision: Precision
    settings: Build
    recipe: Optional[QuantizationRecipe] = None  # INT8 needs it
    keep_fp16: Sequence[str] = ()  # ONNX nodes that INT8 leaves in float (`enginewright.calibration.mixture`)
    axes: Axes = field(default_factory=default_axes)  # the range of each dynamic axis
    plugins: Plugins = NO_PLUGINS  # kernels of the model's custom operators, of the kinds that the runtime takes


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine, and what its builder said."""

    engine_bytes: bytes
    layers: Mapping[str, int] = field(default_factory=dict)  # "INT8", "FP16", "FP32", ... -> layers that run in it
    quantizable: int = 0  # Conv, ConvTranspose, Gemm and MatMul of the model
    quantized: int = 0  # of those, the ones that are known to run in INT8
    # node -> why INT8 left it in float (`enginewright.graph.reasons`)
    left_in_float: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    # what everyone who trusts the engine has to know, a sentence each (`enginewright.runtimes.int8`)
    findings: Sequence[str] = ()
    # of INT8 engines: layers and multiplications in INT8, in float, and unknown
    int8: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)  # versions, flags, axes: what goes into the manifest
    files: Mapping[str, bytes] = field(default_factory=dict)  # written beside the engine: inspector JSON, build log


@dataclass(frozen=True)
class LoadOptions:
    """How an engine is held in memory; each setting trades memory for overlap. Runtimes without a GPU use `depth`."""

    # batches under way in `infer_many`, each with its own buffers; None is three on a GPU and two on a CPU
    depth: Optional[int] = None
    contexts: int = 1  # how many compute at the same time, each with its own stream and scratch memory; at most `depth`
    graphs: bool = True  # capture a CUDA graph for each shape
    device: int = 0  # CUDA ordinal

    def depth_or(self, usual: int) -> int:
        """Batches under way, at least one."""
        return max(1, usual if self.depth is None else self.depth)


@dataclass(frozen=True)
class LayerTime:
    """A layer of an engine as it really runs, after fusion."""

    name: str
    milliseconds: float  # mean device time of one run, per whole batch
    precision: str  # "INT8", "FP16", "FP32", "INT32", ... or "" where the backend does not say
    operations: tuple[str, ...] = ()  # names of the ONNX nodes fused into it


class Engine(Protocol):
    """A loaded engine: it holds its memory from `Loader.load` until `close` or the end of the `with` block."""

    interface: Interface
    axes: Axes

    def infer(self, feeds: Feeds) -> Outputs:
        """Return new host arrays. A batch beyond the range of its axis runs in several goes.

        Raises:
            EngineInputError: a wrong name, dtype or shape, or the engine is closed.
        """

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[Outputs]:
        """Run many batches, two or more under way where the runtime can; yield the outputs in order.

        Raises:
            EngineInputError: as `infer`, in the turn of the batch that it is about.
        """

    def close(self) -> None:
        """Give everything back; a second call does nothing."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exc_info: object) -> None: ...


class Timed(Protocol):
    """What a benchmark asks of an engine beside its answers."""

    def pinned_inputs(self, rows: int, sizes: Optional[Mapping[str, int]] = None) -> dict[str, Array]:
        """Return new arrays for a batch of `rows`, where the engine copies from fastest; they die with the engine.

        `sizes` are those of the other dynamic axes, by name; an axis that is not there has its largest size.
        """

    def device_seconds(self, feeds: Feeds, repeats: int) -> npt.NDArray[np.float64]:
        """Copy `feeds` once, run `repeats` times; device time of each run in seconds, host copies excluded, [repeats].

        Raises:
            EngineInputError: as `Engine.infer`.
        """

    def phase_seconds(self, feeds: Feeds, repeats: int) -> Mapping[str, npt.NDArray[np.float64]]:
        """Run `repeats` times one after the other; seconds of each phase that the runtime can tell apart, [repeats].

        Keys: "enqueue" (host time to hand the work over), "h2d", "compute", "d2h" (device time). Empty where there is
        one clock and one memory.
        """

    def layer_times(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """Run `feeds` `runs` times under the runtime's profiler; the layers in order of execution."""


class TimedEngine(Engine, Timed, Protocol):
    """An engine that a benchmark can measure."""

    def __enter__(self) -> TimedEngine: ...


class Builder(Protocol):
    """Makes engines."""

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """Return the serialized engine of an ONNX file.

        Raises:
            CalibrationMismatch: INT8 without scales, or with those of another model.
            ConfigError: a setting is not for this runtime.
            ModelError: the runtime cannot take the model.
            RuntimeUnavailable: the runtime does not start here.
        """


class Calibrator(Protocol):
    """Chooses INT8 scales."""

    def calibrator_identity(self) -> Mapping[str, str]:
        """What identifies the calibrator: calib.cache is stale where it changes. Empty if the scales move between
        versions.
        """

    def calibrate(
        self, model: Path, feeds: Iterable[Feeds], settings: Calibration, plugins: Plugins = NO_PLUGINS
    ) -> CalibrationCache:
        """Run every batch once ([N, ...] preprocessed) and choose one scale for each tensor.

        Entropy: the threshold of least KL divergence (Migacz, "8-bit Inference with TensorRT", GTC 2017).

        Raises:
            CalibrationMismatch: there is no batch, or one holds a NaN.
        """


class Loader(Protocol):
    """Loads engines."""

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> Engine:
        """Verify the sidecar, then deserialize.

        Raises:
            StaleArtifact: the engine is not whole, or is for another machine; no device memory was taken.
            RuntimeUnavailable: the runtime cannot run engines here.
        """


class Runtime:
    """A member of the registry. It may build where it cannot run, run where it cannot build, or not calibrate at all.

    A subclass defines `name`, `engine_file`, `fingerprint` and those of `build`, `calibrate` and `load` that it has.
    """

    name: str  # its key in the registry
    engine_file: str  # "engine.trt" or "engine.onnx"
    plugin_kinds: ClassVar[tuple[str, ...]] = ()  # of `enginewright.plugins` that it loads
    lacks: ClassVar[Mapping[Capability, str]] = {}  # why it lacks a part, with the remedy

    def why_not(self, capability: Capability) -> Optional[str]:
        """None if it works on this machine, else one sentence with the remedy. Never raises."""
        part = PARTS[capability]
        if getattr(type(self), part) is getattr(Runtime, part):
            return self.lacks.get(capability, f"the runtime {self.name} cannot {capability.value}")
        return self.obstacle(capability)

    def obstacle(self, capability: Capability) -> Optional[str]:
        """What stands in the way of a part that it has on this machine; a subclass overrides it."""
        del capability
        return None

    def fingerprint(self) -> TargetFingerprint:
        """This machine, as the runtime sees it. Raises RuntimeUnavailable."""
        raise NotImplementedError

    def target_for(self, settings: Build) -> TargetFingerprint:
        """What engines built with `settings` are for: this machine, unless a subclass builds for others."""
        del settings
        return self.fingerprint()

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        """See `Builder`."""
        raise self._refusal(Capability.build, model, job)

    def calibrator_identity(self) -> Mapping[str, str]:
        """See `Calibrator`."""
        return {}

    def calibrate(
        self, model: Path, feeds: Iterable[Feeds], settings: Calibration, plugins: Plugins = NO_PLUGINS
    ) -> CalibrationCache:
        """See `Calibrator`."""
        raise self._refusal(Capability.calibrate, model, feeds, settings, plugins)

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> TimedEngine:
        """See `Loader`."""
        raise self._refusal(Capability.run, engine, options)

    def _refusal(self, capability: Capability, *asked: object) -> RuntimeUnavailable:
        del asked
        return RuntimeUnavailable(str(self.why_not(capability)))


PARTS = {Capability.build: "build", Capability.calibrate: "calibrate", Capability.run: "load"}
