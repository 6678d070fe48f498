"""Nodes of operators that are not standard ONNX: found, and taken out of a graph for a while."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from enginewright.graph.constants import STANDARD_DOMAINS

CUSTOM = "an operator of its own domain, which no runtime here has in INT8"  # why it stays in float


def custom_nodes(model: ModelProto) -> list[NodeProto]:
    """Every node, inner graphs included, that neither ONNX nor a function of the model defines."""
    local = {(function.domain, function.name) for function in model.functions}
    return [node for node in _walk(model.graph) if is_custom(node) and (node.domain, node.op_type) not in local]


def is_custom(node: NodeProto) -> bool:
    """Whether a node is of another domain than ONNX's own."""
    return node.domain not in STANDARD_DOMAINS


def operators(nodes: Sequence[NodeProto]) -> list[str]:
    """`my.domain::Mish`, each once, in order."""
    return list(dict.fromkeys(f"{node.domain}::{node.op_type}" for node in nodes))


def state_types(model: ModelProto, known: Mapping[str, ValueInfoProto]) -> None:
    """Write the type and shape of tensors into a model, from where inference goes on."""
    for value in [value for value in model.graph.value_info if value.name in known]:
        model.graph.value_info.remove(value)
    outputs = {value.name for value in model.graph.output}
    model.graph.value_info.extend(value for name, value in known.items() if name not in outputs)


@dataclass(frozen=True)
class Parts:
    """A model without its custom nodes: what they gave are inputs, what they read are outputs."""

    standard: ModelProto
    taken: tuple[NodeProto, ...]
    added_inputs: frozenset[str]
    added_outputs: frozenset[str]
    stored: Mapping[str, TensorProto]  # weights of the custom nodes


def taken_apart(model: ModelProto) -> Optional[Parts]:
    """Take the custom nodes out of a model, so that what knows standard ONNX alone can work on the rest.

    None where one of them lies in an inner graph or has a function's place, and so cannot be taken out.
    """
    taken = [node for node in model.graph.node if is_custom(node)]
    if len(taken) != len(custom_nodes(model)):
        return None
    standard = ModelProto()
    standard.CopyFrom(model)
    kept = [node for node in model.graph.node if not is_custom(node)]
    del standard.graph.node[:]
    standard.graph.node.extend(kept)
    stated = {value.name: value for value in model.graph.value_info}
    inputs = {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    given = [name for node in taken for name in node.output if name]
    made = {name for node in standard.graph.node for name in node.output}
    read = dict.fromkeys(name for node in taken for name in node.input if name in made and name not in outputs)
    standard.graph.input.extend(stated.get(name, _unshaped(name)) for name in given)
    standard.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in read)
    for value in [value for value in standard.graph.output if value.name in given]:
        standard.graph.output.remove(value)  # a custom node gives it itself
    stored = {name: weights[name] for node in taken for name in node.input if name in weights and name not in inputs}
    return Parts(standard, tuple(taken), frozenset(given), frozenset(read), stored)


def put_together(parts: Parts, standard: ModelProto, model: ModelProto) -> ModelProto:
    """Put the custom nodes back.

    Args:
        parts: what was taken out.
        standard: the rest, worked on; inputs and outputs have kept their names.
        model: the whole as it was.
    """
    result = ModelProto()
    result.CopyFrom(standard)
    graph = result.graph
    for values, added in ((graph.input, parts.added_inputs), (graph.output, parts.added_outputs)):
        for value in [value for value in values if value.name in added]:
            values.remove(value)
    del graph.output[:]
    graph.output.extend(model.graph.output)
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for name, tensor in parts.stored.items() if name not in known)
    stated = {value.name for value in graph.value_info}
    graph.value_info.extend(
        value
        for value in model.graph.value_info
        if value.name in parts.added_inputs | parts.added_outputs and value.name not in stated
    )
    nodes = _in_order([*graph.node, *parts.taken])
    del graph.node[:]
    graph.node.extend(nodes)
    imported = {entry.domain for entry in result.opset_import}
    result.opset_import.extend(entry for entry in model.opset_import if entry.domain not in imported)
    return result


def _in_order(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Makers before readers, else as they stand."""
    maker = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {place: [] for place in range(len(nodes))}
    for place, makers in enumerate(needs):
        for other in makers:
            readers[other].append(place)
    waiting = [len(makers) for makers in needs]
    ready = [place for place, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for reader in readers[place]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    return [NodeProto.FromString(nodes[place].SerializeToString()) for place in order]


def _reads(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            for inner in _walk(attribute.g):
                yield from inner.input
            yield from (value.name for value in attribute.g.output)


def _walk(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _walk(attribute.g)


def _unshaped(name: str) -> ValueInfoProto:
    """A float32 tensor of unknown rank: what nothing else is known of."""
    value: ValueInfoProto = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return value
