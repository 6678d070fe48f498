"""A loaded TensorRT engine: buffers allocated once, copies and compute overlapped, a CUDA graph for each shape.

Works on the modules `tensorrt` (8.6 to 11) and `tensorrt_rtx` alike. An engine belongs to the thread that loaded it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, cast

import numpy as np
import numpy.typing as npt

from enginewright.errors import EngineInputError, StaleArtifact
from enginewright.runtimes.base import Array, LayerTime, TensorSpec, check_feeds, in_batches
from enginewright.runtimes.checked import require_engine
from enginewright.runtimes.tensorrt import graph, memory
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.contexts import Program, Worker, largest_batch
from enginewright.runtimes.tensorrt.interop import DeviceArray, Feed, to_feed
from enginewright.runtimes.tensorrt.profiler import LAYERS_FILE, profile_layers
from enginewright.runtimes.tensorrt.streams import Slot
from enginewright.runtimes.tensorrt.tensors import check_profile
from enginewright.target import TargetFingerprint

EVENTS = 256  # pairs of timing events that one pass of `device_seconds` takes


_loggers: dict[str, Any] = {}


@dataclass(frozen=True)
class LoadOptions:
    """How an engine is held in memory; each setting trades memory for overlap."""

    depth: int = 3  # batches under way in `infer_many`, each with its own buffers
    contexts: int = 1  # workers that compute at the same time, each with its own stream and scratch memory; at most `depth`
    graphs: bool = True
    device: int = 0  # CUDA ordinal
    input_scales: Mapping[str, float] = field(default_factory=dict)  # of int8 inputs; `load_engine` takes them from the sidecar


def load_engine(
    trt: Bindings, engine_path: Path, here: TargetFingerprint, options: Optional[LoadOptions] = None, logger: Optional[Any] = None
) -> TensorRTEngine:
    """Verify the sidecar, then deserialize; take all memory that inference will need.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        engine_path: a file that the build stages sealed.
        here: this machine, as the runtime sees it.
        options: memory and overlap.
        logger: a `trt.ILogger`; by default one that prints errors.

    Raises:
        StaleArtifact: the bytes, the ONNX, TensorRT's version or the GPU differ from the sidecar, or there is none. Nothing was deserialized
            and no device memory taken: a serialized engine is executable code (NVIDIA TensorRT documentation, "Security").
        RuntimeUnavailable: no GPU, or too little memory.
    """
    made = require_engine(engine_path, here)
    module = cast(ModuleType, trt)
    held = replace(options or LoadOptions(), input_scales=made.settings.get("input_scales", {}))
    return TensorRTEngine(module, engine_path, held, logger or _default_logger(module))


def _default_logger(trt: ModuleType) -> Any:
    """One for each library, kept until the process ends: TensorRT and its plugins keep a bare pointer to the first logger that they were given."""
    return _loggers.setdefault(trt.__name__, trt.Logger(trt.Logger.ERROR))


class TensorRTEngine:
    """A live engine, used in a `with` block; at its end every byte of device and pinned memory is given back.

    Threads: load, use and leave an engine in one thread. Other threads load engines of their own; the memory of the weights is then taken again.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int

    def __init__(self, trt: ModuleType, path: Path, options: LoadOptions, logger: Any) -> None:
        """Deserialize without a check of the sidecar: use `load_engine`."""
        self._trt, self._path, self._thread = trt, path, threading.get_ident()
        self._closing = contextlib.ExitStack()
        with self._closing:
            memory.push_primary_context(options.device)
            self._closing.callback(memory.pop_primary_context)
            self._logger = logger  # must outlive what is made with it
            self._runtime = trt.Runtime(logger)  # engine_host_code_allowed stays off
            self._engine = self._deserialize(logger)
            self._closing.callback(self._forget)
            self._make_slots(options)
            self.inputs = tuple(replace(binding.spec, scale=options.input_scales.get(binding.name)) for binding in self._workers[0].inputs)
            self.outputs = tuple(binding.spec for binding in self._workers[0].outputs)
            self.max_batch = min(largest_batch(worker.inputs) for worker in self._workers)
            self._closing = self._closing.pop_all()  # all went well: keep everything until `close`

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Run one batch and return new host arrays, [N, ...] each.

        Args:
            feeds: input name -> [N, ...]: a NumPy array, or a CUDA array (`__cuda_array_interface__`, DLPack), which is read in place. A batch
                beyond `max_batch` runs in several goes, overlapped.

        Raises:
            EngineInputError: a wrong name, dtype or shape, or a call from another thread.
        """
        checked, batch = self._check(feeds)
        if batch <= self.max_batch:
            return self._slots[0].run(checked, batch)
        pieces = list(self._pipeline((piece, rows) for piece, rows in self._split(checked, batch)))
        return {spec.name: np.concatenate([piece[spec.name] for piece in pieces]) for spec in self.outputs}

    def infer_many(self, batches: Iterable[Mapping[str, Any]], on_device: bool = False) -> Iterator[dict[str, Any]]:
        """Run many batches, overlapping copy in, compute and copy out; yield the outputs in order, one dictionary a batch.

        Args:
            batches: feeds as for `infer`. Host arrays in memory of `pinned_inputs` are copied from where they lie: leave them alone until their
                outputs came back. Others are copied to pinned memory first.
            on_device: yield `DeviceArray`s, valid until the next but `depth - 2` is asked for, and copy nothing back.

        Raises:
            EngineInputError: as `infer`; with `on_device` also a batch beyond `max_batch`.
        """
        if on_device:
            yield from self._pipeline(((self._fits(feeds)) for feeds in batches), on_device=True)
            return
        sizes: deque[int] = deque()  # of each batch, the pieces under way

        def pieces() -> Iterator[tuple[dict[str, Feed], int]]:
            for feeds in batches:
                checked, batch = self._check(feeds)
                sizes.append(-(-batch // self.max_batch))
                yield from self._split(checked, batch)

        gathered: list[dict[str, Array]] = []
        with contextlib.closing(self._pipeline(pieces())) as outputs:
            for piece in outputs:
                gathered.append(piece)
                if len(gathered) == sizes[0]:
                    sizes.popleft()
                    yield gathered[0] if len(gathered) == 1 else {name: np.concatenate([part[name] for part in gathered]) for name in piece}
                    gathered = []

    def pinned_inputs(self, batch: int) -> dict[str, Array]:
        """New arrays in page-locked memory for one batch, freed with the engine: what is written there is copied to the GPU without staging.

        Dynamic axes other than the batch take the profile's largest size. Don't touch the arrays after the `with` block.
        """
        made = {}
        for binding in self._workers[0].inputs:
            shape = (batch, *binding.maximum[1:])
            buffer = memory.PinnedBuffer(int(np.prod(shape, dtype=np.int64)) * binding.spec.dtype.itemsize)
            self._closing.callback(buffer.free)
            made[binding.name] = buffer.view(shape, binding.spec.dtype)
        return made

    def device_seconds(self, feeds: Mapping[str, Any], repeats: int) -> npt.NDArray[np.float64]:
        """Copy `feeds` once, run `repeats` times back to back; time of each run between CUDA events, in seconds, copies excluded. Shape [repeats]."""
        checked, batch = self._fits(feeds)
        program, _ = self._slots[0].prepare(checked, batch)
        program.run()  # a first run outside of the times
        stream, cuda = self._workers[0].stream, memory.driver()
        pairs = [(cuda.Event(), cuda.Event()) for _ in range(min(EVENTS, repeats))]
        seconds: list[float] = []
        while len(seconds) < repeats:
            used = pairs[: repeats - len(seconds)]
            for start, stop in used:
                start.record(stream)
                program.run()
                stop.record(stream)
            stream.synchronize()
            seconds += [stop.time_since(start) / 1000 for start, stop in used]
        return np.asarray(seconds)

    def phase_seconds(self, feeds: Mapping[str, Any], repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Run `repeats` times one after the other; "enqueue" by the host's clock, "h2d", "compute" and "d2h" between CUDA events; seconds, [repeats]."""
        checked, batch = self._fits(feeds)
        self._slots[0].run(checked, batch)  # a first run outside of the times
        return self._slots[0].timed(checked, batch, repeats)

    def layer_times(self, feeds: Mapping[str, Any], runs: int) -> list[LayerTime]:
        """Run `feeds` `runs` times under TensorRT's IProfiler; mean time of each layer, in order of execution.

        Precisions and fused ONNX nodes come from the inspector's JSON beside the engine, if the builder left it there.
        """
        checked, batch = self._fits(feeds)
        context = self._slots[0].prepare_own_context(checked, batch)
        return profile_layers(self._trt, context, self._workers[0].stream, runs, self._path.with_name(LAYERS_FILE))

    def bare_program(self, feeds: Mapping[str, Any]) -> tuple[Program, Any]:
        """(context set to `feeds` copied once, its stream): for measuring a bare enqueue loop beside ours; nothing of ours is in between."""
        checked, batch = self._fits(feeds)
        return Program(self._slots[0].prepare_own_context(checked, batch), self._workers[0].stream), self._workers[0].stream

    def state(self) -> dict[str, Any]:
        """What a report says of a loaded engine: batches under way, contexts, graphs held, and why there are none."""
        return {
            "depth": len(self._slots),
            "contexts": len(self._workers),
            "graphs": sum(worker.graphs for worker in self._workers),
            "why_no_graph": self._workers[0].why_no_graph,
            "max_batch": self.max_batch,
        }

    def close(self) -> None:
        """Wait for what is under way and give everything back; a second call does nothing. Raises EngineInputError in another thread."""
        self._own_thread()
        self._closing.close()

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _deserialize(self, logger: Any) -> Any:
        if hasattr(self._trt, "init_libnvinfer_plugins"):
            self._trt.init_libnvinfer_plugins(logger, "")
        engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes())
        if engine is None:
            raise StaleArtifact(f"TensorRT {self._trt.__version__} cannot deserialize {self._path}; run `dvc repro -f` on the stage that built it")
        return engine

    def _make_slots(self, options: LoadOptions) -> None:
        cuda, profiles = memory.driver(), self._engine.num_optimization_profiles
        self._workers: list[Worker] = []
        for index in range(max(1, min(options.contexts, options.depth))):
            worker = Worker(self._trt, self._engine, min(index, profiles - 1), options.graphs)
            self._closing.callback(worker.close)
            self._workers.append(worker)
        upload, download = cuda.Stream(), cuda.Stream()
        self._slots: list[Slot] = []
        for index in range(max(1, options.depth)):
            slot = Slot(self._workers[index % len(self._workers)], upload, download)
            self._closing.callback(slot.free)
            self._slots.append(slot)
        self._closing.callback(cuda.Context.synchronize)  # the first to run: nothing is freed under a running kernel

    def _forget(self) -> None:
        """Streams and events go with their last reference, while the context is still current."""
        self._slots, self._workers = [], []
        self._engine = self._runtime = None

    def _own_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise EngineInputError(f"{self._path.name} was loaded in another thread; load it once in each thread that uses it")

    def _check(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Feed], int]:
        self._own_thread()
        if not self._slots:
            raise EngineInputError(f"{self._path.name} is closed: its `with` block has ended; load it again")
        stream = self._workers[0].stream.handle
        arrays: dict[str, Any] = {name: to_feed(name, value, stream) for name, value in feeds.items()}
        batch = check_feeds(self.inputs, arrays)
        check_profile(self._workers[0].inputs, {name: array.shape for name, array in arrays.items()})
        for array in arrays.values():
            if isinstance(array, DeviceArray):
                self._order_after(array)
        return arrays, batch

    def _fits(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Feed], int]:
        checked, batch = self._check(feeds)
        if batch > self.max_batch:
            raise EngineInputError(f"the batch is {batch}, and the engine's profile ends at {self.max_batch}; feed at most that many, or use infer")
        return checked, batch

    def _order_after(self, array: DeviceArray) -> None:
        """Our streams wait for the legacy default stream by themselves; another one that the producer names is waited for here."""
        driver = graph.graph_driver() if array.stream not in (None, 0, 1) else None
        if isinstance(driver, ModuleType):
            graph.synchronize(driver, int(array.stream or 0))
        elif driver is not None:
            memory.driver().Context.synchronize()

    def _split(self, feeds: dict[str, Feed], batch: int) -> Iterator[tuple[dict[str, Feed], int]]:
        if batch <= self.max_batch:
            yield feeds, batch
        elif not any(isinstance(feed, DeviceArray) for feed in feeds.values()):
            for piece in in_batches(feeds, batch, self.max_batch):  # type: ignore[arg-type]  # all are host arrays
                yield dict(piece), next(iter(piece.values())).shape[0]
        else:
            for start in range(0, batch, self.max_batch):
                stop = min(start + self.max_batch, batch)
                yield {name: feed.rows(start, stop) if isinstance(feed, DeviceArray) else feed[start:stop] for name, feed in feeds.items()}, stop - start

    def _pipeline(self, pieces: Iterable[tuple[dict[str, Feed], int]], on_device: bool = False) -> Generator[dict[str, Any], None, None]:
        """Submit to one slot after the other; collect the oldest once all are under way."""
        if any(slot.busy for slot in self._slots):
            raise EngineInputError("another infer_many of this engine is not finished; take all its outputs or close its iterator first")
        under_way: deque[Slot] = deque()
        # Outputs that stay on the device lie in the slot's own buffer: the slot handed out last is not submitted to before the next is asked for.
        room = len(self._slots) - 1 if on_device and len(self._slots) > 1 else len(self._slots)
        index = 0
        try:
            for feeds, rows in pieces:
                if len(under_way) == room:
                    yield under_way.popleft().collect()
                slot = self._slots[index % len(self._slots)]
                slot.submit(feeds, rows, on_device)
                under_way.append(slot)
                index += 1
            while under_way:
                yield under_way.popleft().collect()
        finally:
            for slot in under_way:
                if slot.busy:  # not if the engine was closed before its pipeline
                    slot.collect()
