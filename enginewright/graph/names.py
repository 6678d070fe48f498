"""Every name that we give to a tensor or a node comes from here, so that it is never one that the model has already.

A name made by hand, such as `x_scale`, can be a tensor of the model: the quantized model then multiplies by the wrong
one, without an error (case 01 of issue 11, and ONNX Runtime's own quantizer,
github.com/microsoft/onnxruntime/issues/24705).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Union

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto


class Names:
    """All names of a model: tensors and nodes of its graph, of inner graphs (If, Loop, Scan) and of its functions.

    `Names(model).unique("x_scale")` is `x_scale`, or `x_scale_2` where that is taken, and takes it. One object serves
    a whole conversion: make it once from the model, before the first new name, and hand it on.
    """

    def __init__(self, *protos: Union[ModelProto, GraphProto]) -> None:
        """Know the names of these models or graphs as they are now."""
        self._taken: set[str] = {""}  # stands for an optional input or output that is left out
        self._numbers: dict[str, int] = {}  # name -> the last number tried behind it
        for proto in protos:
            self.take(_of_model(proto) if isinstance(proto, ModelProto) else _of_graph(proto))

    def __contains__(self, name: object) -> bool:
        """Whether a tensor or node has this name."""
        return name in self._taken

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._taken)

    def take(self, names: Iterable[str]) -> None:
        """Let no one else have these names."""
        self._taken.update(names)

    def unique(self, wanted: str) -> str:
        """`wanted`, or `wanted` with a number, that no tensor and no node has; it is taken from now on."""
        candidate = wanted
        while candidate in self._taken:
            self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            candidate = f"{wanted}_{self._numbers[wanted]}"
        self._taken.add(candidate)
        return candidate


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of an If, Loop, Scan or any other node that holds graphs."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def name_nodes(model: ModelProto) -> bool:
    """Give each node a name of its own, in place: by it a layer is left in float, or looked for in a profile.

    Returns whether two shared one, which ONNX Runtime refuses.
    """
    nodes = list(_all_nodes(model.graph))
    shared = {name for name, count in Counter(node.name for node in nodes if node.name).items() if count > 1}
    names, kept = Names(model), set[str]()
    for node in nodes:
        if not node.name or node.name in kept:
            made = next(filter(None, node.output), "")
            node.name = names.unique(node.name or (f"{node.op_type}_{made}" if made else node.op_type))
        kept.add(node.name)
    return bool(shared)


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from _all_nodes(inner)


def printable(model: ModelProto) -> tuple[ModelProto, dict[str, str]]:
    """A model none of whose inner tensors and nodes has a line break or another control character in its name.

    TensorRT ends a name at a NUL, writes its log and calib.cache in lines, and its parser takes two such names for
    one. Inputs and outputs keep theirs, which whoever feeds the engine knows.

    Returns:
        The model itself and nothing, or a copy and its new names: old -> new.
    """
    names = Names(model)
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    odd = sorted(name for name in names if not name.isprintable() and name not in ends)
    renamed = {
        name: names.unique("".join(each if each.isprintable() else f"_x{ord(each):x}_" for each in name))
        for name in odd
    }
    if not renamed:
        return model, {}
    result = ModelProto()
    result.CopyFrom(model)
    _rename(result.graph, renamed)
    return result, renamed


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    for value in (
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        *(sparse.values for sparse in graph.sparse_initializer),
    ):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        node.name = renamed.get(node.name, node.name)
        for tensors in (node.input, node.output):
            for index, tensor in enumerate(tensors):
                if tensor in renamed:
                    tensors[index] = renamed[tensor]
        for inner in inner_graphs(node):
            _rename(inner, renamed)


def _of_model(model: ModelProto) -> Iterator[str]:
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_function(function)


def _of_function(function: FunctionProto) -> Iterator[str]:
    yield from (*function.input, *function.output)
    yield from _of_nodes(function.node)


def _of_graph(graph: GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield node.name
        yield from (*node.input, *node.output)
        for inner in inner_graphs(node):
            yield from _of_graph(inner)
