"""The contract between stages and backends. Owner modules in this folder import their heavy package on first use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, Precision
from enginewright.errors import EngineInputError, nearest
from enginewright.feeds import Array, Feeds, require_iterable, require_mapping, require_plain_array, wrong_dtype
from enginewright.target import TargetFingerprint

Under = TypeVar("Under")  # a batch under way


class Task(Enum):
    """What a backend may or may not be able to do on this machine."""

    calibrate = "calibrate"
    build = "build"
    run = "run"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of an engine."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Optional[int], ...]  # None marks a dynamic axis
    scale: Optional[float] = None  # of an int8 input that stands for real numbers: real = scale * integer


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine, and what its builder said."""

    plan: bytes
    layers: Mapping[str, int] = field(
        default_factory=dict
    )  # precision ("INT8", "FP16", "FP32", ...) -> layers that really run in it
    quantizable: int = 0  # Conv, ConvTranspose, Gemm and MatMul of the model
    quantized: int = 0  # of those, the ones that are known to run in INT8
    left_in_float: Mapping[str, str] = field(
        default_factory=dict
    )  # node -> why INT8 left it in float (`enginewright.graph.reasons`)
    warnings: Sequence[str] = ()
    findings: Sequence[
        str
    ] = ()  # what whoever trusts the engine has to know, a sentence each (`enginewright.runtimes.int8`)
    int8: Mapping[str, Any] = field(
        default_factory=dict
    )  # of INT8 engines: layers and multiplications in INT8, in float, and unknown
    settings: Mapping[str, Any] = field(
        default_factory=dict
    )  # versions, flags, profile shapes: what goes into the manifest
    files: Mapping[str, bytes] = field(default_factory=dict)  # written beside the engine: inspector JSON, build log


@dataclass(frozen=True)
class LayerTime:
    """A layer of an engine as it really runs, after fusion."""

    name: str
    milliseconds: float  # mean device time of one run, per whole batch
    precision: str  # "INT8", "FP16", "FP32", "INT32", ... or "" where the backend does not say
    operations: tuple[str, ...] = ()  # names of the ONNX nodes fused into it


class Engine(Protocol):
    """A loaded engine: device memory is held from `Runtime.load` to the end of the `with` block, with no half-open
    state.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return new host arrays, [N, ...] each. Raises EngineInputError on a wrong name, dtype or shape."""

    def infer_many(self, batches: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
        """Run many batches, two or more under way where the backend can; yield the outputs in order. Raises as
        `infer`.
        """

    def pinned_inputs(self, batch: int) -> dict[str, Array]:
        """New arrays for `batch` rows of each input, where the engine copies from fastest; don't touch them after the
        `with` block.
        """

    def device_seconds(self, feeds: Mapping[str, Array], repeats: int) -> npt.NDArray[np.float64]:
        """Copy `feeds` once, run `repeats` times; device time of each run in seconds, host copies excluded. Shape
        [repeats].
        """

    def phase_seconds(self, feeds: Mapping[str, Array], repeats: int) -> Mapping[str, npt.NDArray[np.float64]]:
        """Run `repeats` times one after the other; seconds of each phase that the backend can tell apart, [repeats]
        each.

        Keys: "enqueue" (host time to hand the work over), "h2d", "compute", "d2h" (device time). Empty where there is
            one clock and one memory.
        """

    def layer_times(self, feeds: Mapping[str, Array], runs: int) -> list[LayerTime]:
        """Run `feeds` `runs` times under the backend's profiler; the layers in order of execution."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exc_info: object) -> None: ...


class Runtime(Protocol):
    """One backend. It may build where it cannot run, run where it cannot build, or not calibrate at all."""

    name: str
    engine_file: str  # "engine.trt" or "engine.onnx"

    def why_not(self, task: Task) -> Optional[str]:
        """None if `task` works on this machine, else one sentence with the remedy. Never raises."""

    def fingerprint(self, settings: Build) -> TargetFingerprint:
        """What engines built with `settings` are for: this machine as this backend sees it. Raises
        RuntimeUnavailable.
        """

    def calibrator(self) -> Mapping[str, str]:
        """What identifies the calibrator: whatever changes here makes calib.cache stale. Empty if its scales move
        between versions.
        """

    def calibrate(
        self, onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration
    ) -> CalibrationCache:
        """Run every batch once (input name -> [N, C, H, W] float32, preprocessed) and choose one scale a tensor.

        Entropy: the threshold of least KL divergence (Migacz, "8-bit Inference with TensorRT", GTC 2017).
        Raises CalibrationMismatch if there is no batch, or if one holds a NaN.
        """

    def build(
        self,
        onnx_model: Path,
        precision: Precision,
        settings: Build,
        recipe: Optional[QuantizationRecipe],
        floats: Collection[str] = (),
    ) -> BuiltEngine:
        """Return the serialized engine.

        INT8 needs `recipe`; `floats` are the ONNX nodes that INT8 leaves in FP16
        (`enginewright.calibration.mixture`). Raises CalibrationMismatch, ModelError, RuntimeUnavailable.
        """

    def load(self, engine: Path) -> Engine:
        """Verify the sidecar, then deserialize. Raises StaleArtifact before any device memory is taken."""


def check_feeds(specs: Sequence[TensorSpec], feeds: Mapping[str, Array]) -> int:
    """Return the batch size N of feeds that fit the specs.

    Raises:
        EngineInputError: naming the input, what it should be and what it is.
    """
    if type(feeds) is not dict:  # a look at the type is cheaper than what follows, and this runs before every inference
        require_mapping(feeds)
    for name, value in feeds.items():
        if type(value) is not np.ndarray or value.dtype.hasobject:
            require_plain_array(name, value)
    return check_shapes(specs, feeds)


def check_shapes(specs: Sequence[TensorSpec], feeds: Mapping[str, Any]) -> int:
    """`check_feeds` of what is known to be arrays, in host memory or not. Raises EngineInputError."""
    names = [spec.name for spec in specs]
    for name in feeds:
        if name not in names:
            raise EngineInputError(f"the engine has no input '{name}'{nearest(str(name), names)}")
    batches: dict[str, int] = {}
    for spec in specs:
        if spec.name not in feeds:
            raise EngineInputError(f"the input '{spec.name}' {spec.dtype} {list(spec.shape)} is missing")
        array = feeds[spec.name]
        if array.dtype is not spec.dtype and array.dtype != spec.dtype:
            raise wrong_dtype(spec.name, spec.dtype, array.dtype, spec.scale is not None)
        wrong = len(array.shape) != len(spec.shape) or any(
            want is not None and want != have for want, have in zip(spec.shape, array.shape)
        )
        if wrong:
            want = [axis if axis is not None else "N" for axis in spec.shape]
            raise EngineInputError(f"the input '{spec.name}' must have shape {want} and has {list(array.shape)}")
        if array.shape:
            batches[spec.name] = array.shape[0]
    if len(set(batches.values())) > 1:
        raise EngineInputError(f"the inputs disagree on the batch: {batches}")
    batch = next(iter(batches.values()), 1)
    if batch < 1:
        raise EngineInputError("the batch is empty; feed at least one image")
    return batch


def in_order(batches: Iterable[Feeds], start: Callable[[Feeds], Under], depth: int) -> Iterator[Under]:
    """Start one batch after the other, `depth` ahead of the one that is handed out, in order.

    What fails for a batch, in the caller's generator or in `start`, is raised in that batch's turn, after the outputs
    of those before it.
    """
    require_iterable(batches)
    source, under_way = iter(batches), deque[Under]()
    fault: Optional[Exception] = None
    while fault is None:
        try:
            feeds = next(source)
        except StopIteration:
            break
        except Exception as raised:  # noqa: BLE001 - the caller's own; it is raised below
            fault = raised
            break
        try:
            under_way.append(start(feeds))
        except Exception as raised:  # noqa: BLE001 - raised below
            fault = raised
        while len(under_way) >= depth and fault is None:
            yield under_way.popleft()
    while under_way:
        yield under_way.popleft()
    if fault is not None:
        raise fault


def overlapped(
    infer: Callable[[Feeds], dict[str, Array]],
    batches: Iterable[Feeds],
    depth: int = 2,
    live: Callable[[], object] = lambda: None,
) -> Iterator[dict[str, Array]]:
    """`infer_many` for a backend whose `infer` blocks and lets other threads run: `depth` batches under way, a thread
    each.

    Args:
        infer: answers one batch.
        batches: feeds; arrays are copied when they are drawn, so that the caller may fill them again for the next
            batch.
        depth: batches under way.
        live: raises EngineInputError once the engine is closed.
    """

    def start(feeds: Feeds) -> Future[dict[str, Array]]:
        require_mapping(feeds)
        return threads.submit(
            infer, {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in feeds.items()}
        )

    live()
    with ThreadPoolExecutor(depth) as threads:
        for under_way in in_order(batches, start, depth):
            live()
            yield under_way.result()
            live()


def plain_inputs(specs: Sequence[TensorSpec], batch: int) -> dict[str, Array]:
    """`pinned_inputs` for a backend that shares the host's memory: zeros, a dynamic axis beside the batch taken as
    1.
    """
    return {spec.name: np.zeros((batch, *(axis or 1 for axis in spec.shape[1:])), spec.dtype) for spec in specs}


def in_batches(feeds: Mapping[str, Array], batch: int, limit: int) -> Iterable[dict[str, Array]]:
    """Split feeds of `batch` rows into pieces of at most `limit` rows, in order: what lies beyond the profile runs in
    several goes.
    """
    for start in range(0, batch, limit):
        yield {name: array[start : start + limit] if array.shape else array for name, array in feeds.items()}
