"""Time of each node of an ONNX Runtime session by its own profiler, in the form that TensorRT's layer profile has too.

ONNX Runtime renames what it fuses, in another way for each precision. `fused_nodes` finds the engine's own nodes behind
each kernel, so that the same part of the model can be compared across engines.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx

from enginewright.feeds import Feeds
from enginewright.graph import stored
from enginewright.plugins import beside
from enginewright.runtimes.base import LayerTime
from enginewright.runtimes.onnxruntime.session import open_session

# Operators that compute in integers whatever type their output has.
INTEGER_OPERATORS = ("QLinear", "ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantize")
PRECISIONS = {
    "int8": "INT8",
    "uint8": "INT8",
    "float16": "FP16",
    "float": "FP32",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}
# They hand values on in another type; a kernel of their own has their name, else they are part of what surrounds them.
CONVERSIONS = ("Cast", "DequantizeLinear", "QuantizeLinear")
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CAST_PREFIX = (  # before tensors that ONNX Runtime raised from FP16 to FP32 (insert_cast_transformer.cc)
    "InsertedPrecisionFreeCast_"
)


def layer_times(model_path: Path, feeds: Feeds, runs: int) -> list[LayerTime]:
    """Run `feeds` `runs` times in a session of its own with profiling on, after one run that is not counted.

    Args:
        model_path: the engine's ONNX file.
        feeds: input name -> array, at most the engine's largest batch.
        runs: how many times are averaged.

    Returns:
        Nodes of the optimized graph in the order of execution; times are wall-clock of the kernel, per whole batch, the
        mean of the middle half.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(str(model_path), plugins=beside(model_path), profile=Path(folder) / "profile")
        for _ in range(runs + 1):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    layers = summed(events, runs)
    nodes = fused_nodes([layer.name for layer in layers], stored.read(model_path).graph)
    return [dataclasses.replace(layer, operations=nodes[layer.name]) for layer in layers]


def fused_nodes(kernels: Sequence[str], graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """The nodes of the engine's file that each kernel computes, told from the kernel's name and the graph.

    ONNX Runtime names a kernel after one of the nodes in it, or after the tensor that one of them wrote, and appends to
    that: `conv1/Conv_token_4` (Q/DQ fusions), `Relu_output_0_nchwc` (blocked convolutions). What this leaves without a
    kernel was fused: a multiplication into the kernel of the activation behind it, anything else (an addition, an
    activation) into the last kernel that computes one of its inputs.

    Args:
        kernels: names in the order of execution.
        graph: of the engine, before ONNX Runtime optimizes it.

    Returns:
        Kernel -> node names in the graph's order; empty for what ONNX Runtime put in (`Transpose`, `ReorderOutput`).
    """
    wiring = _Wiring(graph)
    kernel_of: dict[str, str] = {}  # node -> kernel
    for kernel in kernels:
        node = wiring.named_in(kernel)
        if node is not None:
            kernel_of[node] = kernel
    own = set(kernel_of)
    order = {kernel: position for position, kernel in enumerate(kernels)}
    for name, node in wiring.nodes.items():
        if name not in kernel_of and node.op_type in MULTIPLYING:
            behind = next((follower for follower in wiring.behind(name) if follower in kernel_of), None)
            if behind is not None:
                kernel_of[name] = kernel_of[behind]
    for name in wiring.nodes:
        if name not in kernel_of:
            feeding = [kernel_of[source] for source in wiring.before(name) if source in kernel_of]
            if feeding:
                kernel_of[name] = max(feeding, key=lambda kernel: order[kernel])
    shown = [name for name, node in wiring.nodes.items() if name in own or node.op_type not in CONVERSIONS]
    return {kernel: tuple(name for name in shown if kernel_of.get(name) == kernel) for kernel in kernels}


class _Wiring:
    """Which node of a graph feeds which; a node without a name goes by its first output."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: dict[str, onnx.NodeProto] = {node.name or node.output[0]: node for node in graph.node}
        self._writer: dict[str, str] = {tensor: name for name, node in self.nodes.items() for tensor in node.output}
        self._readers: dict[str, list[str]] = {}
        for name, node in self.nodes.items():
            for tensor in node.input:
                self._readers.setdefault(tensor, []).append(name)

    def named_in(self, kernel: str) -> Optional[str]:
        """The node whose name, or whose tensor's name, begins the kernel's name; the longest such name wins."""
        wanted = kernel[len(CAST_PREFIX) :] if kernel.startswith(CAST_PREFIX) else kernel
        cuts = [len(wanted), *(place for place in range(len(wanted) - 1, 0, -1) if wanted[place] in "_/")]
        for begin in (wanted[:cut] for cut in cuts):
            if begin in self.nodes:
                return begin
            if begin in self._writer:
                return self._writer[begin]
        return None

    def before(self, name: str) -> Iterator[str]:
        """The nodes that feed a node."""
        return (self._writer[tensor] for tensor in self.nodes[name].input if tensor in self._writer)

    def behind(self, name: str) -> Iterator[str]:
        """The nodes behind a node, one after the other, as far as each value goes to one node alone and none of them
        multiplies.
        """
        while True:
            readers = [reader for tensor in self.nodes[name].output for reader in self._readers.get(tensor, [])]
            if len(readers) != 1 or self.nodes[readers[0]].op_type in MULTIPLYING:
                return
            name = readers[0]
            yield name


def summed(events: Sequence[Mapping[str, Any]], runs: int) -> list[LayerTime]:
    """Average each kernel's time over the middle half of the runs, without the first, which allocates.

    The mean of all runs would mostly tell where another process interrupted: kernels take tens of microseconds, a turn
    of the scheduler milliseconds.

    Args:
        events: of ONNX Runtime's profile, `dur` in microseconds.
        runs: how many there were after the first.
    """
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            seen.setdefault(str(event["name"])[: -len("_kernel_time")], []).append(event)
    layers = []
    for name, of_node in seen.items():
        counted = of_node[-runs * max(1, len(of_node) // (runs + 1)) :]
        durations = np.array([float(event["dur"]) for event in counted]) / 1000
        in_run = np.sort(
            [part.sum() for part in np.array_split(durations, runs)]
        )  # a loop runs its kernels more than once in a run
        milliseconds = float(in_run[runs // 4 : runs - runs // 4].mean())
        layers.append(LayerTime(name, milliseconds, _precision(counted[-1].get("args", {}))))
    return layers


def _precision(arguments: Mapping[str, Any]) -> str:
    """INT8 for integer kernels, else the type of the first input that has one."""
    if str(arguments.get("op_name", "")).startswith(INTEGER_OPERATORS):
        return "INT8"
    for side in ("input_type_shape", "output_type_shape"):
        for typed in arguments.get(side, []):
            for kind in typed:
                if kind in PRECISIONS:
                    return PRECISIONS[kind]
    return ""
