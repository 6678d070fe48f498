"""What a graph holds without being fed: initializers, Constant nodes, and whatever follows from these alone.

Exporters put weights behind Constant, Identity, Cast, Transpose or Reshape nodes; such a weight is as good as a
stored one. Values are computed when they are asked for, by ONNX's own reference, so that the target needs no ONNX
Runtime.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from enginewright.graph import stored
from enginewright.graph.names import inner_graphs

Array = npt.NDArray[Any]

STANDARD_DOMAINS = ("", "ai.onnx")
RANDOM = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
)


def operator(node: NodeProto) -> str:
    """The operator of ONNX itself that a node is, or "" for one of another domain, whatever it is called there."""
    return str(node.op_type) if node.domain in STANDARD_DOMAINS else ""


class Constants:
    """Constant tensors by name. `tensor in constants` costs nothing; a computed value is computed once."""

    def __init__(self, graph: GraphProto, nodes: Sequence[NodeProto], opsets: Sequence[Any]) -> None:
        """`nodes`: of `graph`, in its order. `opsets`: what the model imports."""
        self._opsets = list(opsets)
        self._stored: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._values: dict[str, Optional[Array]] = {
            sparse.values.name: dense(sparse) for sparse in graph.sparse_initializer
        }
        self._makers: dict[str, NodeProto] = {}
        self._order = {id(node): position for position, node in enumerate(nodes)}
        inputs = {value.name for value in graph.input}
        for node in nodes:
            if self._is_constant(node):
                self._makers.update((tensor, node) for tensor in node.output if tensor and tensor not in inputs)

    def __contains__(self, tensor: object) -> bool:
        """Whether a tensor depends on nothing that is fed, nor on the shape of it."""
        return tensor in self._stored or tensor in self._values or tensor in self._makers

    def is_initializer(self, tensor: str) -> bool:
        """Whether a tensor lies in the graph as a dense initializer, which a node in any place may read."""
        return tensor in self._stored

    def shape(self, tensor: str) -> Optional[tuple[int, ...]]:
        """The shape of a constant, without its values where it is stored."""
        if tensor in self._stored:
            return tuple(self._stored[tensor].dims)
        value = self.value(tensor)
        return None if value is None else value.shape

    def value(self, tensor: str) -> Optional[Array]:
        """The value of a constant; None for anything else, and for what ONNX's reference cannot compute."""
        if tensor in self._stored:
            return stored.array(self._stored[tensor])
        if tensor not in self._values and tensor in self._makers:
            self._values.update(self._computed(tensor))
        return self._values.get(tensor)

    def add(self, tensor: TensorProto) -> None:
        """Know an initializer that was added to the graph."""
        self._stored[tensor.name] = tensor

    def _is_constant(self, node: NodeProto) -> bool:
        if not operator(node) or node.op_type in RANDOM or any(True for _ in inner_graphs(node)):
            return False
        return all(not tensor or tensor in self for tensor in node.input)

    def _computed(self, tensor: str) -> dict[str, Optional[Array]]:
        """The value of a computed constant."""
        if (literal := _literal(self._makers[tensor])) is not None:
            return {tensor: literal}
        nodes = self._leading_to(tensor)
        made = {output for node in nodes for output in node.output}
        read = sorted({source for node in nodes for source in node.input if source and source not in made})
        held = [self._held(source) for source in read]
        if any(each is None for each in held):
            return {tensor: None}
        graph = helper.make_graph(
            [NodeProto.FromString(node.SerializeToString()) for node in nodes],
            "constant",
            [],
            [helper.make_tensor_value_info(tensor, TensorProto.UNDEFINED, None)],
            [each for each in held if each is not None],
        )
        return {tensor: _run(helper.make_model(graph, opset_imports=self._opsets), tensor)}

    def _held(self, tensor: str) -> Optional[TensorProto]:
        value = self._values.get(tensor)
        if value is not None:
            return numpy_helper.from_array(value, tensor)
        return stored.inline(self._stored[tensor]) if tensor in self._stored else None

    def _leading_to(self, tensor: str) -> list[NodeProto]:
        """The nodes that a computed constant needs, in their order."""
        found: dict[int, NodeProto] = {}
        waiting = [tensor]
        while waiting:
            name = waiting.pop()
            node = self._makers.get(name)
            if node is not None and id(node) not in found and self._values.get(name) is None:
                found[id(node)] = node
                waiting.extend(node.input)
        return sorted(found.values(), key=lambda node: self._order[id(node)])


def _run(model: ModelProto, tensor: str) -> Optional[Array]:
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"), contextlib.suppress(Exception):  # of whichever kind an operator raises
        (value,) = ReferenceEvaluator(model).run([tensor], {})
        return value if isinstance(value, np.ndarray) else np.asarray(value)
    return None


def _literal(node: NodeProto) -> Optional[Array]:
    """What a Constant node holds, in whichever of its attributes."""
    if operator(node) != "Constant":
        return None
    for attribute in node.attribute:
        held = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return numpy_helper.to_array(held)
        if attribute.name == "sparse_value":
            return dense(held)
        if attribute.name.startswith("value_"):
            kinds: Mapping[str, Any] = {"float": np.float32, "int": np.int64, "string": object}
            return np.asarray(held, kinds[attribute.name[len("value_") :].rstrip("s")])
    return None


def dense(sparse: SparseTensorProto) -> Array:
    """A sparse tensor with its zeros written out."""
    values, indices, shape = (
        numpy_helper.to_array(sparse.values),
        numpy_helper.to_array(sparse.indices),
        tuple(sparse.dims),
    )
    result = np.zeros(shape, values.dtype)
    if indices.ndim == 1:
        result.reshape(-1)[indices] = values
    else:
        result[tuple(indices.T)] = values
    return result


def names_of(nodes: Iterable[NodeProto]) -> set[str]:
    """Every tensor that these nodes read, those of the graphs inside them included."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for inner in inner_graphs(node):
            found |= names_of(inner.node) | {output.name for output in inner.output}
    return found - {""}
