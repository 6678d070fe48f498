"""Execution contexts of one engine on one stream and one scratch buffer, and the CUDA graphs captured from them.

A graph is tied to its context's shapes and addresses, so each graph gets a context of its own; all share one scratch
buffer, as they run one after the other on one stream (NVIDIA TensorRT Developer Guide, "CUDA Graphs"). TensorRT 8.6
allows a second context of the same profile only if the engine was built with PreviewFeature.PROFILE_SHARING_0806;
without it inferences run launch by launch, and `why_no_graph` says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Optional, Union

from enginewright.errors import RuntimeUnavailable
from enginewright.interface import Shape
from enginewright.runtimes.tensorrt import cuda_graph, memory
from enginewright.runtimes.tensorrt.tensors import read_inputs, read_outputs

MAX_GRAPHS = 32  # of one worker; the one unused for longest goes first, so that ever new shapes cannot fill the memory

Key = tuple[tuple[Shape, ...], tuple[int, ...]]  # shapes of the inputs, addresses of inputs and outputs


def new_context(trt: ModuleType, engine: Any, profile: int, scratch: memory.DeviceBuffer, stream: Any) -> Optional[Any]:
    """A context of `profile` whose activations live in `scratch`, or None if the engine does not allow another one."""
    if hasattr(engine, "create_execution_context_without_device_memory"):
        context = engine.create_execution_context_without_device_memory()
    else:  # TensorRT 11, TensorRT-RTX
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        return None
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(scratch.address, scratch.nbytes)
    else:
        context.device_memory = scratch.address
    if context.active_optimization_profile != profile:
        if not context.set_optimization_profile_async(profile, stream.handle):
            return None
        stream.synchronize()
    return context


def scratch_bytes(engine: Any) -> int:
    """Device memory that one context of the engine needs for activations."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


class Program:
    """A context set to one shape and one set of addresses, and its graph."""

    def __init__(self, context: Any, stream: Any, prepare: Optional[Callable[[], None]] = None) -> None:
        """`prepare` sets shapes and addresses before each run of a context that others use too."""
        self.context = context
        self._stream, self._prepare = stream, prepare
        self.graph: Optional[cuda_graph.Graph] = None
        # of the slot that the addresses belong to, where the program outlives the call that made it
        self.lease: object = None

    def run(self) -> None:
        """Put one inference on the stream. Raises RuntimeUnavailable if TensorRT or the driver refuses it."""
        if self._prepare is not None:
            self._prepare()
        if self.graph is not None:
            self.graph.launch()
        elif not self.context.execute_async_v3(self._stream.handle):
            raise RuntimeUnavailable("TensorRT could not enqueue the inference; its log has the reason")


class Worker:
    """One compute stream with its scratch buffer and contexts: what runs one after the other."""

    def __init__(self, trt: ModuleType, engine: Any, profile: int, graphs: bool) -> None:
        """Raises RuntimeUnavailable if there is no memory, or no further context."""
        self._trt, self._engine, self._profile = trt, engine, profile
        self.stream = memory.driver().Stream()
        self.scratch = memory.DeviceBuffer(scratch_bytes(engine))
        self._programs: OrderedDict[Key, Program] = OrderedDict()
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self.why_no_graph: Optional[str] = None if graphs else "graphs were not asked for"
        self._cuda: Union[ModuleType, str] = cuda_graph.graph_driver() if graphs else "graphs were not asked for"
        if isinstance(self._cuda, str):
            self.why_no_graph = self._cuda
        self._loose_shapes: dict[str, Shape] = {}
        try:
            self.loose = Program(self._first_context(), self.stream)  # set again for each inference; never captured
            self.inputs = read_inputs(trt, engine, profile)
            self.outputs = read_outputs(trt, engine, self.loose.context, self.inputs)
        except BaseException:
            self.scratch.free()
            raise

    @property
    def graphs(self) -> int:
        """Graphs that are held now."""
        return len(self._programs)

    def output_shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for shapes of the inputs, as TensorRT infers them."""
        self._set_shapes(self.loose.context, shapes)
        return {binding.name: tuple(self.loose.context.get_tensor_shape(binding.name)) for binding in self.outputs}

    def program(self, shapes: Mapping[str, Shape], addresses: Mapping[str, int], lasting: bool) -> Program:
        """What runs one inference with these shapes and addresses.

        Args:
            shapes: of every input.
            addresses: of every input and output.
            lasting: these addresses will come again (own buffers), so a graph pays at once; for others it is captured
                when they come a second time.
        """
        key = (tuple(shapes.values()), tuple(addresses.values()))
        found = self._programs.get(key)
        if found is not None:
            self._programs.move_to_end(key)
            return found
        if self.why_no_graph is None and (lasting or key in self._seen):
            captured = self._capture(shapes, addresses)
            if captured is not None:
                self._programs[key] = captured
                self._limit()
                return captured
        self._seen[key] = None
        if len(self._seen) > 4 * MAX_GRAPHS:
            self._seen.popitem(last=False)
        self._set_shapes(self.loose.context, shapes)
        self._set_addresses(self.loose.context, addresses)
        return self.loose

    def own_program(self, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> Program:
        """Runs one inference on a context beside the others, for a profiler. Raises RuntimeUnavailable if TensorRT
        refuses a shape.

        Where the engine allows no other context it is the loose one, which the next inference sets to something else:
            `Program.run` sets it again.
        """
        context = new_context(self._trt, self._engine, self._profile, self.scratch, self.stream)

        def prepare() -> None:
            self._loose_shapes = {}
            for name, shape in shapes.items():
                _accept((context or self.loose.context).set_input_shape(name, shape), name)
            self._set_addresses(context or self.loose.context, addresses)

        prepare()
        return Program(context or self.loose.context, self.stream, prepare if context is None else None)

    def close(self) -> None:
        """Wait for the stream; free graphs, contexts and scratch, in this order. A second call does nothing."""
        self.stream.synchronize()
        while self._programs:
            self._drop(self._programs.popitem(last=False)[1])
        self.loose.context = None
        self.scratch.free()

    def _first_context(self) -> Any:
        base = new_context(self._trt, self._engine, self._profile, self.scratch, self.stream)
        if base is None:
            raise RuntimeUnavailable(
                f"the engine allows no further context of its optimization profile {self._profile}; load it with"
                " contexts=1, or build it with profile sharing"
            )
        return base

    def _capture(self, shapes: Mapping[str, Shape], addresses: Mapping[str, int]) -> Optional[Program]:
        context = new_context(self._trt, self._engine, self._profile, self.scratch, self.stream)
        if context is None:
            self.why_no_graph = (
                "the engine's optimization profile allows one context only (TensorRT 8.6 without profile sharing)"
            )
            return None
        program = Program(context, self.stream)
        for name, shape in shapes.items():
            _accept(context.set_input_shape(name, shape), name)
        self._set_addresses(context, addresses)
        program.run()  # after a change of shape TensorRT does work that cannot be captured
        self.stream.synchronize()
        assert not isinstance(self._cuda, str)  # why_no_graph would say so
        try:
            program.graph = cuda_graph.Graph(
                self._cuda, self.stream.handle, lambda: bool(context.execute_async_v3(self.stream.handle))
            )
        except cuda_graph.CaptureFailed as fault:
            self.why_no_graph = str(fault)
            return None
        return program

    def _limit(self) -> None:
        if len(self._programs) > MAX_GRAPHS:
            self.stream.synchronize()
            self._drop(self._programs.popitem(last=False)[1])

    @staticmethod
    def _drop(program: Program) -> None:
        if program.graph is not None:
            program.graph.free()
        program.context = None

    def _set_shapes(self, context: Any, shapes: Mapping[str, Shape]) -> None:
        if shapes != self._loose_shapes:
            self._loose_shapes = {}  # a refusal half way leaves neither the old shapes nor the new ones
            for name, shape in shapes.items():
                _accept(context.set_input_shape(name, shape), name)
            self._loose_shapes = dict(shapes)

    @staticmethod
    def _set_addresses(context: Any, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            _accept(context.set_tensor_address(name, address), name)


def _accept(accepted: bool, name: str) -> None:
    if not accepted:
        raise RuntimeUnavailable(
            f"TensorRT refuses the shape or address of the tensor '{name}'; its log has the reason"
        )
