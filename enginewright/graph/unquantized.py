"""The float model behind a quantized one: Q/DQ nodes taken out, weights dequantized.

A model that carries Q/DQ pairs is compared with the same graph without them, and calibrated again. What a pair stands
for is not undone in one case: where its integers begin at zero, ONNX Runtime's quantizer has dropped the Relu before
it, and it comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper

from enginewright.graph import stored
from enginewright.graph.constants import operator
from enginewright.graph.cut import drop_dead
from enginewright.graph.index import Graph
from enginewright.graph.names import inner_graphs

Array = npt.NDArray[Any]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
BRING_FLOAT = "bring the float model that it was quantized from"
MICROSOFT = "com.microsoft"  # ONNX Runtime's quantizer writes its pairs there for 16 bits
INTEGERS = {  # operators that compute with integers; of ONNX, and of ONNX Runtime
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "DynamicQuantizeMatMul",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "MatMulBnb4",
    "QAttention",
    "QGemm",
    "QEmbedLayerNormalization",
    "QMoE",
    "DynamicQuantizeLSTM",
}


@dataclass(frozen=True)
class Pairs:
    """What was taken out of a model."""

    activations: int  # pairs
    weights: int  # dequantized


def is_pair(node: NodeProto) -> bool:
    """Whether a node is one of a Q/DQ pair."""
    return node.op_type in (QUANTIZE, DEQUANTIZE) and node.domain in ("", "ai.onnx", MICROSOFT)


def integer_operators(model: ModelProto) -> tuple[str, ...]:
    """The operators of a model that compute with integers, which no float model stands behind, sorted."""
    found = {
        node.op_type
        for node in _nodes(model)
        if node.op_type in INTEGERS or (node.domain == MICROSOFT and node.op_type.startswith("QLinear"))
    }
    return tuple(sorted(found))


def integers_said(called: str, operators: Sequence[str]) -> str:
    """What is wrong with a file that has `integer_operators`; BRING_FLOAT is what to do."""
    return f"{called} computes with integers in {', '.join(operators)}, and no float model can be made of that"


def unquantize(model: ModelProto) -> Pairs:
    """Take every Q/DQ node out, in place.

    Raises:
        ValueError: naming a node of one that has no other beside it: the model computes with its integers.
    """
    graph = Graph(model)
    weights = _dequantize_weights(graph, model)
    renamed: dict[str, str] = {}
    relus: list[NodeProto] = []
    taken = [
        node for node in graph.nodes if is_pair(node) and node.op_type == DEQUANTIZE and node.output[0] not in weights
    ]
    for node in taken:
        quantize = graph.producer(node.input[0])
        if quantize is None or not is_pair(quantize) or quantize.op_type != QUANTIZE:
            raise ValueError(graph.key(node))
        source = quantize.input[0]
        if _begins_at_zero(graph, node) and not graph.is_non_negative(source):
            relus.append(
                helper.make_node("Relu", [source], [graph.unique(f"{source}_relu")], graph.unique(f"{source}_Relu"))
            )
            source = relus[-1].output[0]
        renamed[node.output[0]] = source
    _check_alone(graph, {node.output[0] for node in taken} | weights.keys())
    _rewire(model, renamed, relus)
    return Pairs(len(taken), len(weights))


def _dequantize_weights(graph: Graph, model: ModelProto) -> dict[str, Array]:
    """Store what DequantizeLinear makes of a constant under the name of its output."""
    found: dict[str, Array] = {}
    for node in graph.nodes:
        if is_pair(node) and node.op_type == DEQUANTIZE and (value := _constant(graph, node)) is not None:
            found[node.output[0]] = value
    if found:
        kept = [node for node in graph.nodes if not found.keys() & set(node.output)]
        graph.replace_nodes(kept)
        model.graph.initializer.extend(stored.tensor_of(value, name) for name, value in found.items())
    return found


def _constant(graph: Graph, node: NodeProto) -> Optional[Array]:
    """What a DequantizeLinear makes of a constant: of a QuantizeLinear before it, the number before it was rounded."""
    quantize = graph.producer(node.input[0])
    if quantize is not None and is_pair(quantize) and graph.is_constant(quantize.input[0]):
        value = graph.constant(quantize.input[0])
        return None if value is None else value.astype(np.float32)
    stored, scale = graph.constant(node.input[0]), graph.constant(node.input[1])
    if stored is None or scale is None:
        return None
    if operator(node) and (value := graph.constant(node.output[0])) is not None:
        return value.astype(np.float32)
    zero = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [-1 if place == axis % max(stored.ndim, 1) else 1 for place in range(stored.ndim)] if scale.size > 1 else []
    shift = np.zeros_like(stored) if zero is None else zero.reshape(shape) if scale.size > 1 else zero
    value = (stored.astype(np.float64) - shift.astype(np.float64)) * (scale.reshape(shape) if scale.size > 1 else scale)
    return np.asarray(value, np.float32)


def _begins_at_zero(graph: Graph, node: NodeProto) -> bool:
    """Whether the least integer of a pair stands for zero, so that it gives no negative number."""
    if len(node.input) < 3 or not node.input[2]:
        return False  # int8 around zero, or uint8: see below
    zero = graph.constant(node.input[2])
    return zero is not None and zero.size == 1 and int(zero.reshape(-1)[0]) == np.iinfo(zero.dtype).min


def _check_alone(graph: Graph, gone: set[str]) -> None:
    for node in graph.nodes:
        if is_pair(node) and node.op_type == QUANTIZE and not graph.is_constant(node.input[0]):
            readers = graph.consumers(node.output[0])
            if graph.read_elsewhere(node.output[0]) or not all(set(reader.output) <= gone for reader in readers):
                raise ValueError(graph.key(node))


def _rewire(model: ModelProto, renamed: dict[str, str], relus: Sequence[NodeProto]) -> None:
    def source(tensor: str) -> str:
        while tensor in renamed:
            tensor = renamed[tensor]
        return tensor

    outputs = {value.name for value in model.graph.output} & renamed.keys()
    kept = [node for node in model.graph.node if not (is_pair(node) and node.output[0] in renamed)]
    last = [helper.make_node("Identity", [source(name)], [name], f"{name}_Identity") for name in sorted(outputs)]
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in [*kept, *relus, *last]]
    for node in nodes:
        _read(node, {tensor: source(tensor) for tensor in renamed})
    del model.graph.node[:]
    model.graph.node.extend(_sorted(nodes))
    drop_dead(model)
    del model.graph.value_info[:]


def _read(node: NodeProto, names: dict[str, str]) -> None:
    node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
    for inner in inner_graphs(node):
        for each in inner.node:
            _read(each, names)


def _sorted(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """In an order in which every tensor is made before it is read, otherwise as they are."""
    from enginewright.graph.constants import names_of

    makers = {tensor: place for place, node in enumerate(nodes) for tensor in node.output if tensor}
    done: dict[int, None] = {}
    for first in range(len(nodes)):
        waiting = [first]
        while waiting:
            place = waiting[-1]
            missing = [
                makers[each] for each in sorted(names_of([nodes[place]])) if each in makers and makers[each] not in done
            ]
            if place in done or not missing or any(each == place for each in missing):
                waiting.pop()
                done[place] = None
            else:
                waiting.extend(missing)
    return [nodes[place] for place in done]


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    waiting = list(model.graph.node)
    while waiting:
        node = waiting.pop()
        yield node
        for inner in inner_graphs(node):
            waiting.extend(inner.node)
