"""What `build.precision_mode: auto` chooses for an INT8 engine: a rule over the graph alone, the same on every machine
that has both ways.

The evidence of each line is in docs/decisions/0020-precision-mode.md. Nothing is measured here; what a build then
really runs in is counted after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from onnx import ModelProto, NodeProto

from enginewright.config import PrecisionMode
from enginewright.graph.index import Graph

# What may stand between the product of queries and keys, the Softmax, and the product with the values.
BETWEEN = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Where",
    "Cast",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Dropout",
    "Flatten",
)
DEPTH = 8


@dataclass(frozen=True)
class Features:
    """What of a graph decides on the way to INT8: names of nodes."""

    attention: tuple[str, ...] = ()  # matrix products of two activations with a Softmax between them
    norms: tuple[str, ...] = ()  # LayerNormalization, as one node or written out
    transposed: tuple[str, ...] = ()  # ConvTranspose


def features(model: ModelProto) -> Features:
    """Read them off a float model."""
    graph = Graph(model.graph)
    products = tuple(
        dict.fromkeys(name for node in graph.nodes if node.op_type == "Softmax" for name in _attention(graph, node))
    )
    norms = tuple(
        graph.key(node)
        for node in graph.nodes
        if node.op_type == "LayerNormalization" or _is_written_out_norm(graph, node)
    )
    return Features(products, norms, tuple(graph.key(node) for node in graph.nodes if node.op_type == "ConvTranspose"))


def recommended(model: ModelProto) -> tuple[PrecisionMode, str]:
    """The way that `auto` takes where the library has both, and why, in words."""
    found = features(model)
    compiled = "implicit INT8 leaves what TensorRT compiles as one node in floating point"
    if found.attention:
        return PrecisionMode.explicit, f"attention: {compiled}"
    if found.norms:
        return PrecisionMode.explicit, f"LayerNormalization: {compiled}"
    if found.transposed:
        return PrecisionMode.explicit, "ConvTranspose: an implicit build ended in an assertion of TensorRT 8.6"
    return PrecisionMode.implicit, "convolutions: TensorRT places INT8 by measured time"


def _attention(graph: Graph, softmax: NodeProto) -> Iterator[str]:
    """The product before a Softmax and the one behind it, if both are of activations."""
    before, behind = (
        _product_before(graph, softmax.input[0], DEPTH),
        list(_products_behind(graph, softmax.output[0], DEPTH)),
    )
    if before is not None and behind:
        yield graph.key(before)
        yield from map(graph.key, behind)


def _product_before(graph: Graph, tensor: str, depth: int) -> Optional[NodeProto]:
    node = graph.producer(tensor)
    if node is None or depth == 0:
        return None
    if node.op_type in ("MatMul", "Einsum"):
        return node if _is_of_activations(graph, node) else None
    if node.op_type not in BETWEEN:
        return None
    sources = (source for source in node.input if source and graph.constant(source) is None)
    return next((found for source in sources if (found := _product_before(graph, source, depth - 1)) is not None), None)


def _products_behind(graph: Graph, tensor: str, depth: int) -> Iterator[NodeProto]:
    for node in graph.consumers(tensor) if depth else ():
        if node.op_type in ("MatMul", "Einsum"):
            if _is_of_activations(graph, node):
                yield node
        elif node.op_type in BETWEEN:
            yield from _products_behind(graph, node.output[0], depth - 1)


def _is_of_activations(graph: Graph, node: NodeProto) -> bool:
    return all(graph.constant(tensor) is None for tensor in node.input)


def _is_written_out_norm(graph: Graph, node: NodeProto) -> bool:
    """Whether a Div ends ReduceMean -> Sub -> Pow -> ReduceMean -> Add -> Sqrt -> Div, as exporters write
    LayerNormalization before opset 17.
    """
    if node.op_type != "Div":
        return False
    tensor = node.input[1]
    for operators in (("Sqrt",), ("Add",), ("ReduceMean",), ("Pow", "Mul")):
        maker = graph.producer(tensor)
        if maker is None or maker.op_type not in operators:
            return False
        tensor = next((source for source in maker.input if graph.constant(source) is None), maker.input[0])
    maker = graph.producer(tensor)
    return maker is not None and maker.op_type == "Sub"
