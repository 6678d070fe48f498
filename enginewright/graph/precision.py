"""A model of another floating point type, such as float16, as the same graph in float32.

Calibration observes float32, and every engine is built of it. What float16 holds, float32 holds exactly; of float64 it
rounds, which the comparison with the original file judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from enginewright.graph import stored
from enginewright.graph.names import inner_graphs

OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
TYPED = {"to", "dtype"}  # attributes that name a type: of Cast, and of what makes numbers


def other_floats(model: ModelProto) -> tuple[str, ...]:
    """The floating point types beside float32 of a model's weights, inputs and outputs, and of what it casts to.

    Returns:
        Names such as "float16", the coarsest first.
    """
    found = set(_types(model.graph))
    order = (TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.DOUBLE)
    return tuple("float64" if kind == TensorProto.DOUBLE else _named(kind) for kind in order if kind in found)


def to_float32(model: ModelProto) -> None:
    """Make every tensor of `other_floats` float32, in place: weights, inputs, outputs and what nodes give."""
    _convert(model.graph)


def _named(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _types(graph: GraphProto) -> Iterator[int]:
    for value in (*graph.input, *graph.output):
        yield value.type.tensor_type.elem_type
    for tensor in _tensors(graph):
        yield tensor.data_type
    for node in graph.node:
        yield from (attribute.i for attribute in _typed(node))
        for inner in inner_graphs(node):
            yield from _types(inner)


def _convert(graph: GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        _retype(value)
    for tensor in _tensors(graph):
        if tensor.data_type in OTHER_FLOATS:
            with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which check_onnx names
                array = stored.array(tensor).astype(np.float32)
            tensor.CopyFrom(stored.tensor_of(array, tensor.name))
    for node in graph.node:
        for attribute in _typed(node):
            if attribute.i in OTHER_FLOATS:
                attribute.i = TensorProto.FLOAT
        for inner in inner_graphs(node):
            _convert(inner)


def _retype(value: ValueInfoProto) -> None:
    kinds = [value.type.tensor_type, value.type.sequence_type.elem_type.tensor_type]
    for kind in kinds if value.type.HasField("sequence_type") else kinds[:1]:
        if kind.elem_type in OTHER_FLOATS:
            kind.elem_type = TensorProto.FLOAT


def _typed(node: NodeProto) -> Iterable[AttributeProto]:
    return [attribute for attribute in node.attribute if attribute.name in TYPED]


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """What one graph stores, without the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
