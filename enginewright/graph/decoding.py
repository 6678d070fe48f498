"""What a model does with the answers of its last layers, before they are its outputs: the decoding of a detector.

Boxes in pixels have more than 256 steps, and in one tensor with probabilities they leave these none. So this part of a
detector stays in float: the expectation over bins of a distance (DFL), Softmax and Sigmoid, anchors and strides, Concat
(docs/decisions/0042-decoding-in-float.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, NodeProto, TensorProto

from enginewright.graph.constants import operator
from enginewright.graph.index import Graph
from enginewright.graph.reasons import SAME_SCALE, is_quantizable, stored_operands

# A shape is known before a layer answers, so what is behind these is not behind the answers.
SHAPE_OF = ("Shape", "Size")
REAL = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.UNDEFINED)


def decoding(model: ModelProto, outputs: Iterable[str]) -> tuple[str, ...]:
    """Name the nodes between the last layers with weights and some outputs, in the graph's order.

    A Conv or MatMul of a Softmax with one output channel is among them: it has constants, such as 0 to 15, where a
    layer has weights (X. Li et al., "Generalized Focal Loss", 2020). What computes integers alone, such as the sizes
    that a grid of anchors is made from, is not: INT8 is not about it.

    Args:
        model: FP32.
        outputs: those that are judged.

    Returns:
        Names as `Graph.key` gives them: a node without a name of its own goes by its first output.
    """
    graph = Graph(model)
    found: set[str] = set()
    waiting, seen = list(outputs), set(outputs)
    while waiting:
        node = graph.producer(waiting.pop())
        if node is None or operator(node) in SHAPE_OF or (is_quantizable(node) and not _is_expectation(graph, node)):
            continue
        if any(graph.element_type(tensor) in REAL for tensor in node.output if tensor):
            found.add(graph.key(node))
        sources = {tensor for tensor in node.input if tensor and not graph.is_constant(tensor)} - seen
        seen |= sources
        waiting += sorted(sources)
    return tuple(key for node in graph.nodes if (key := graph.key(node)) in found)


def layers_of(model: ModelProto, nodes: Iterable[str]) -> tuple[str, ...]:
    """Those of some nodes that are layers: Conv, ConvTranspose, Gemm or MatMul."""
    graph, named = Graph(model), set(nodes)
    return tuple(key for node in graph.nodes if (key := graph.key(node)) in named and is_quantizable(node))


def _is_expectation(graph: Graph, node: NodeProto) -> bool:
    """Whether a layer weighs the bins of a Softmax with constants, and gives one number for all of them."""
    stored = stored_operands(graph, node)
    if len(stored) != 1 or not _is_softmax(graph, node.input[1 - stored[0]]):
        return False
    weights = graph.constant_shape(node.input[stored[0]])
    if weights is None:
        return False
    if operator(node) == "Conv":  # [channels out, bins, 1, 1]
        return weights[0] == 1
    return len(weights) == 1 or weights[-1 if stored[0] == 1 else 0] == 1


def _is_softmax(graph: Graph, tensor: str) -> bool:
    node = graph.producer(tensor)
    while node is not None and operator(node) in SAME_SCALE:
        node = graph.producer(node.input[0])
    return node is not None and operator(node) == "Softmax"
