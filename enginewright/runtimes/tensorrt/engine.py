"""A loaded TensorRT engine: buffers allocated once, copies and compute overlapped, a CUDA graph for each shape.

Works on the modules `tensorrt` (8.6 to 11) and `tensorrt_rtx` alike. An engine belongs to the thread that loaded it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, cast

import numpy as np
import numpy.typing as npt

from enginewright.errors import EngineInputError, StaleArtifact
from enginewright.feeds import Array, engine_closed, joined, refuse_nan, require_mapping
from enginewright.interface import Axes, AxisRange, Interface
from enginewright.plugins import NO_PLUGINS, Plugins, beside
from enginewright.runtimes.base import LayerTime, LoadOptions
from enginewright.runtimes.batches import check_shapes, in_batches, in_order
from enginewright.runtimes.checked import is_quantized, require_engine
from enginewright.runtimes.tensorrt import cuda_graph, memory
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.contexts import Program, Worker
from enginewright.runtimes.tensorrt.interop import DeviceArray, Feed, to_feed
from enginewright.runtimes.tensorrt.plugins import load_plugins
from enginewright.runtimes.tensorrt.pool import Piece, Pool
from enginewright.runtimes.tensorrt.profile import LAYERS_FILE, profile_layers
from enginewright.runtimes.tensorrt.tensors import axes_of, with_names
from enginewright.target import TargetFingerprint

_loggers: dict[str, Any] = {}


USUAL_DEPTH = 3  # batches under way, where nothing else was asked for


@dataclass(frozen=True)
class Made:
    """What the sidecar says of an engine, and the engine itself does not."""

    input_scales: Mapping[str, float] = field(default_factory=dict)  # of int8 inputs
    quantized: bool = False  # computes in INT8, which would hide NaN
    interface: Optional[Interface] = None  # of the model: the names of its axes
    plugins: Plugins = NO_PLUGINS


def load_engine(
    trt: Bindings,
    engine_path: Path,
    here: TargetFingerprint,
    options: Optional[LoadOptions] = None,
    logger: Optional[Any] = None,
) -> TensorRTEngine:
    """Verify the sidecar, then deserialize; take all memory that inference will need.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        engine_path: a file that the build stages sealed.
        here: this machine, as the runtime sees it.
        options: memory and overlap.
        logger: a `trt.ILogger`; by default one that prints errors.

    Raises:
        StaleArtifact: the bytes, the ONNX, TensorRT's version or the GPU differ from the sidecar, or there is none.
            Or a plugin differs or is missing. Nothing was deserialized and no device memory taken: a serialized engine
            is executable code (NVIDIA TensorRT documentation, "Security").
        RuntimeUnavailable: no GPU, or too little memory.
    """
    made = require_engine(engine_path, here)
    module, scales = cast(ModuleType, trt), made.settings.get("input_scales", {})
    known = Made(scales, is_quantized(made), made.usage.interface, beside(engine_path, made))
    return TensorRTEngine(module, engine_path, options or LoadOptions(), logger or _default_logger(module), known)


def _default_logger(trt: ModuleType) -> Any:
    """One for each library, kept until the process ends: TensorRT and its plugins keep a bare pointer to the first
    logger that they were given.
    """
    return _loggers.setdefault(trt.__name__, trt.Logger(trt.Logger.ERROR))


class TensorRTEngine:
    """A live engine, used in a `with` block; at its end every byte of device and pinned memory is given back.

    Threads: load, use and leave an engine in one thread. Other threads load engines of their own; the memory of the
    weights is then taken again. Within the thread any calls may be interleaved: several open iterators of `infer_many`,
    and anything else between two of their outputs.
    """

    interface: Interface
    axes: Axes

    def __init__(
        self, trt: ModuleType, path: Path, options: LoadOptions, logger: Any, made: Optional[Made] = None
    ) -> None:
        """Deserialize without a check of the sidecar: use `load_engine`."""
        self._trt, self._path, self._options, self._thread = trt, path, options, threading.get_ident()
        self._made, self._depth = made or Made(), options.depth_or(USUAL_DEPTH)
        self._closing = contextlib.ExitStack()
        with self._closing:
            memory.push_primary_context(options.device)
            self._closing.callback(memory.pop_primary_context)
            self._logger = logger  # must outlive what is made with it
            self._runtime = trt.Runtime(logger)  # engine_host_code_allowed stays off
            self._engine = self._deserialize(logger)
            self._closing.callback(self._forget)
            self._make_slots(options)
            self.interface, self.axes = self._read_interface()
            self._limit = self.interface.rows(self.axes)
            self._closing = self._closing.pop_all()  # all went well: keep everything until `close`

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Run one batch and return new host arrays, [N, ...] each.

        Args:
            feeds: input name -> [N, ...]: a NumPy array, or a CUDA array (`__cuda_array_interface__`, DLPack), which is
                read in place. A batch beyond the range of the batch runs in several goes, overlapped.

        Raises:
            EngineInputError: a wrong name, dtype or shape, NaN in a host array for an INT8 engine, or a call from
                another thread. Arrays of `pinned_inputs` and CUDA arrays are not searched for NaN: reading them would
                cost more than copying them.
        """
        checked, batch = self._check(feeds)
        if batch <= self._limit:
            with self._pool.borrowed() as slot:
                return slot.run(checked, batch)
        return self._collect(self._submit(checked, batch, on_device=False))

    def infer_many(self, batches: Iterable[Mapping[str, Any]], on_device: bool = False) -> Iterator[dict[str, Any]]:
        """Run many batches, overlapping copy in, compute and copy out; yield the outputs in order, one dictionary a
        batch.

        What fails for a batch is raised in that batch's turn. An iterator that is left unfinished needs no care.

        Args:
            batches: feeds as for `infer`. Host arrays in memory of `pinned_inputs` are copied from where they lie:
                leave them alone until their outputs came back. Others are copied to pinned memory when they are drawn.
            on_device: yield `DeviceArray`s and copy nothing back. Their memory is theirs for as long as one of them
                lives, and at least until the next but `depth - 2` is asked for; keep few, as each that is kept beyond
                takes the memory of a further batch.

        Raises:
            EngineInputError: as `infer`; with `on_device` also a batch beyond the largest; the engine was closed.
        """
        depth, under_way = self._depth, deque[list[Piece]]()

        def start(feeds: Mapping[str, Any]) -> list[Piece]:
            under_way.append(self._submit(*(self._fits if on_device else self._check)(feeds), on_device))
            return under_way[-1]

        self._live()
        handed: deque[dict[str, Any]] = deque()
        try:
            for pieces in in_order(batches, start, max(1, depth - 1) if on_device else depth + 1):
                outputs = self._collect(pieces)
                under_way.popleft()
                if on_device:
                    handed.append(outputs)
                yield outputs
                self._live()
                while len(handed) > max(0, depth - 2):
                    handed.popleft()
                del outputs
        finally:
            for pieces in under_way:
                for piece in pieces:
                    piece.wanted = False

    def pinned_inputs(self, batch: int, sizes: Optional[Mapping[str, int]] = None) -> dict[str, Array]:
        """New arrays in page-locked memory for one batch, freed with the engine: what is written there is copied to the
        GPU without staging.

        Dynamic axes other than the batch have the size that `sizes` names, else the profile's largest. Don't touch the
        arrays after the `with` block.
        """
        self._live()
        if batch < 1:
            raise EngineInputError(f"a batch of {batch} rows cannot be fed; ask for at least one")
        made = {}
        for binding in self._workers[0].inputs:
            names = zip(binding.spec.shape[1:], binding.maximum[1:])
            shape = (batch, *((sizes or {}).get(str(axis), largest) for axis, largest in names))
            buffer = memory.PinnedBuffer(int(np.prod(shape, dtype=np.int64)) * binding.spec.dtype.itemsize)
            self._buffers.callback(buffer.free)
            made[binding.name] = buffer.view(shape, binding.spec.dtype)
        return made

    def device_seconds(self, feeds: Mapping[str, Any], repeats: int) -> npt.NDArray[np.float64]:
        """Copy `feeds` once, run `repeats` times back to back; time of each run between CUDA events, in seconds, copies
        excluded. Shape [repeats].
        """
        checked, batch = self._fits(feeds)
        with self._pool.borrowed() as slot:
            return slot.device_seconds(checked, batch, repeats)

    def phase_seconds(self, feeds: Mapping[str, Any], repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Run `repeats` times one after the other; "enqueue" by the host's clock, "h2d", "compute" and "d2h" between
        CUDA events; seconds, [repeats].
        """
        checked, batch = self._fits(feeds)
        with self._pool.borrowed() as slot:
            return slot.phase_seconds(checked, batch, repeats)

    def layer_times(self, feeds: Mapping[str, Any], runs: int) -> list[LayerTime]:
        """Run `feeds` `runs` times under TensorRT's IProfiler; mean time of each layer, in order of execution.

        Precisions and fused ONNX nodes come from the inspector's JSON beside the engine, if the builder left it there.
        """
        checked, batch = self._fits(feeds)
        with self._pool.borrowed() as slot:
            program = slot.own_program(checked, batch)
            return profile_layers(self._trt, program, slot.worker.stream, runs, self._path.with_name(LAYERS_FILE))

    def bare_program(self, feeds: Mapping[str, Any]) -> tuple[Program, Any]:
        """(context set to `feeds` copied once, its stream): for measuring a bare enqueue loop beside ours; nothing of
        ours is in between.

        The program keeps a slot for as long as it lives.
        """
        checked, batch = self._fits(feeds)
        slot, lease = self._pool.lent()
        program = slot.own_program(checked, batch)
        program.lease = (lease, checked)
        return program, slot.worker.stream

    def state(self) -> dict[str, Any]:
        """What a report says of a loaded engine: batches under way, contexts, graphs held, and why there are none."""
        return {
            "depth": self._depth,
            "slots": len(self._pool),
            "contexts": len(self._workers),
            "graphs": sum(worker.graphs for worker in self._workers),
            "why_no_graph": self._workers[0].why_no_graph,
            "max_batch": self._limit,
        }

    def close(self) -> None:
        """Wait for what is under way and give everything back; a second call does nothing. Raises EngineInputError in
        another thread.
        """
        self._own_thread()
        self._closing.close()

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _deserialize(self, logger: Any) -> Any:
        if hasattr(self._trt, "init_libnvinfer_plugins"):
            self._trt.init_libnvinfer_plugins(logger, "")
        load_plugins(self._trt, self._made.plugins)
        engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes())
        if engine is None:
            raise StaleArtifact(
                f"TensorRT {self._trt.__version__} cannot deserialize {self._path}; run `dvc repro -f` on the stage"
                " that built it"
            )
        return engine

    def _read_interface(self) -> tuple[Interface, dict[str, AxisRange]]:
        """What every worker's optimization profile allows."""
        first, scales, model = self._workers[0], self._made.input_scales, self._made.interface
        if model is not None:
            for worker in self._workers:
                worker.inputs, worker.outputs = (with_names(each, model) for each in (worker.inputs, worker.outputs))
        inputs = tuple(replace(binding.spec, scale=scales.get(binding.name)) for binding in first.inputs)
        interface = Interface(inputs, tuple(binding.spec for binding in first.outputs))
        return interface, axes_of([binding for worker in self._workers for binding in worker.inputs])

    def _make_slots(self, options: LoadOptions) -> None:
        cuda, profiles = memory.driver(), self._engine.num_optimization_profiles
        self._workers: list[Worker] = []
        for index in range(max(1, min(options.contexts, self._depth))):
            worker = Worker(self._trt, self._engine, min(index, profiles - 1), options.graphs)
            self._closing.callback(worker.close)
            self._workers.append(worker)
        self._pool = Pool(self._workers)
        self._closing.callback(self._pool.close)
        self._buffers = self._closing.enter_context(contextlib.ExitStack())  # that callers ask for
        self._closing.callback(cuda.Context.synchronize)  # the first to run: nothing is freed under a running kernel
        self._pool.fill(self._depth)

    def _forget(self) -> None:
        """Streams and events go with their last reference, while the context is still current."""
        self._workers = []
        self._engine = self._runtime = None

    def _own_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise EngineInputError(
                f"{self._path.name} was loaded in another thread; load it once in each thread that uses it"
            )

    def _live(self) -> None:
        self._own_thread()
        if not self._workers:
            raise engine_closed(self._path)

    def _check(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Feed], int]:
        self._live()
        require_mapping(feeds)
        stream, device = self._pool.intake, self._options.device
        arrays: dict[str, Any] = {name: to_feed(name, value, stream, device) for name, value in feeds.items()}
        batch = check_shapes(self.interface, self.axes, arrays)
        for array in arrays.values():
            if isinstance(array, DeviceArray):
                self._order_after(array)
        if self._made.quantized:
            refuse_nan(
                {
                    name: array
                    for name, array in arrays.items()
                    if isinstance(array, np.ndarray) and not memory.is_pinned(array)
                }
            )
        return arrays, batch

    def _fits(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Feed], int]:
        checked, batch = self._check(feeds)
        if batch > self._limit:
            raise EngineInputError(
                f"the batch is {batch}, and the engine's profile ends at {self._limit}; feed at most that many, or"
                " use infer"
            )
        return checked, batch

    def _order_after(self, array: DeviceArray) -> None:
        """Our streams wait for the legacy default stream by themselves; another one that the producer names is waited
        for here.
        """
        driver = cuda_graph.graph_driver() if array.stream not in (None, 0, 1) else None
        if isinstance(driver, ModuleType):
            cuda_graph.synchronize(driver, int(array.stream or 0))
        elif driver is not None:
            memory.driver().Context.synchronize()

    def _submit(self, feeds: dict[str, Feed], batch: int, on_device: bool) -> list[Piece]:
        """Start all pieces of a batch; when this returns, what the caller has in pageable memory has been read."""
        pieces: list[Piece] = []
        try:
            for piece, rows in in_batches(self.interface, feeds, batch, self._limit):
                pieces.append(self._pool.submit(piece, rows, on_device))
        except BaseException:
            for started in pieces:
                started.wanted = False
            raise
        return pieces

    def _collect(self, pieces: list[Piece]) -> dict[str, Any]:
        self._live()
        return joined([(self._pool.collect(piece), piece.rows) for piece in pieces])
