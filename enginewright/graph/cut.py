"""A graph cut to some of its outputs, and put into the form that everything behind the import expects."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from onnx import ModelProto, helper, inliner

from enginewright.graph.constants import STANDARD_DOMAINS, names_of


def cut_to(model: ModelProto, outputs: Sequence[str]) -> None:
    """Keep these outputs, in this order, and what leads to them, in place. Inputs stay, but for weights among them.

    Args:
        model: edited in place.
        outputs: names of outputs that the model has.
    """
    graph = model.graph
    by_name = {value.name: value for value in graph.output}
    kept = [by_name[name] for name in outputs]
    del graph.output[:]
    graph.output.extend(kept)
    drop_dead(model)


def drop_dead(model: ModelProto) -> None:
    """Remove, in place, nodes and weights that no output needs, and weights from the inputs (IR version 3 has them)."""
    graph = model.graph
    wanted, living = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            living.append(node)
            wanted |= names_of([node])
    if len(living) != len(graph.node):
        kept = list(reversed(living))
        del graph.node[:]
        graph.node.extend(kept)
    stored = {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    for field, values in (
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in wanted]),
        (graph.sparse_initializer, [each for each in graph.sparse_initializer if each.values.name in wanted]),
        (graph.input, [value for value in graph.input if value.name not in stored]),
    ):
        if len(field) != len(values):
            del field[:]
            field.extend(values)


def without_functions(model: ModelProto) -> ModelProto:
    """The model with its own functions written out where they are called; the model itself if it has none."""
    return inliner.inline_local_functions(model) if model.functions else model


def keep_used_domains(model: ModelProto) -> None:
    """Drop, in place, imports of operator sets of which no node of the main graph or an inner one is."""
    used = {*STANDARD_DOMAINS, *_domains(model)}
    kept = [helper.make_opsetid(entry.domain, entry.version) for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _domains(model: ModelProto) -> Collection[str]:
    from enginewright.graph.names import inner_graphs

    found, waiting = set[str](), list(model.graph.node)
    while waiting:
        node = waiting.pop()
        found.add(node.domain)
        for inner in inner_graphs(node):
            waiting.extend(inner.node)
    return found
