"""An ONNX graph, indexed for inserting Q/DQ nodes: who makes a tensor, who reads it, what is constant, what cannot be negative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, GraphProto, NodeProto, numpy_helper

from enginewright.calibration.names import Names

NON_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs")
SIGN_KEEPING = ("MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")
SIGN_KEEPING_OF_ALL = ("Add", "Mul", "Concat")


class Graph:
    """A view of a GraphProto that edits it in place. Of subgraphs (If, Loop, Scan) it knows only what they read."""

    def __init__(self, proto: GraphProto, names: Optional[Names] = None) -> None:
        """Index `proto`; the index holds for the graph as it is now. `names`: of the whole model, where `proto` is not all of it."""
        self._proto = proto
        self._unique = names or Names(proto)
        self.nodes: list[NodeProto] = list(proto.node)
        self.outputs = {output.name for output in proto.output}
        self.captured = set(_captured(proto))  # tensors that inner graphs read: nobody's `consumers`
        self._constants = {tensor.name: tensor for tensor in proto.initializer}
        self._constants.update({node.output[0]: node.attribute[0].t for node in self.nodes if node.op_type == "Constant" and node.attribute[0].name == "value"})
        self._producers = {tensor: (position, node) for position, node in enumerate(self.nodes) for tensor in node.output}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for tensor in node.input:
                self._consumers.setdefault(tensor, []).append(node)
        self._named = Counter(node.name for node in self.nodes)
        self._first: list[NodeProto] = []

    def constant(self, tensor: str) -> Optional[npt.NDArray[Any]]:
        """The value of an initializer or Constant node, None for anything computed."""
        return numpy_helper.to_array(self._constants[tensor]) if tensor in self._constants else None

    def consumers(self, tensor: str) -> Sequence[NodeProto]:
        """The nodes that read a tensor, once for each of their inputs that does."""
        return self._consumers.get(tensor, [])

    def position(self, tensor: str) -> int:
        """Where in the graph's order a tensor is made; -1 for inputs and initializers."""
        return self._producers[tensor][0] if tensor in self._producers else -1

    def is_conv_output(self, tensor: str) -> bool:
        """Whether a Conv makes this tensor, directly or through a BatchNormalization, which backends fold into it."""
        producer = self.producer(tensor)
        if producer is not None and producer.op_type == "BatchNormalization":
            producer = self.producer(producer.input[0])
        return producer is not None and producer.op_type == "Conv"

    def behind_relu(self, tensor: str) -> str:
        """The output of the Relu, or Clip from 0, that alone reads a tensor; else the tensor. Backends fuse these into the layer before."""
        consumers = self.consumers(tensor)
        if len(consumers) == 1 and tensor not in self.outputs and self._is_relu(consumers[0]):
            return str(consumers[0].output[0])
        return tensor

    def is_non_negative(self, tensor: str) -> bool:
        """Whether no value of a tensor can be negative, by the operators that lead to it."""
        producer = self.producer(tensor)
        if producer is None:
            constant = self.constant(tensor)
            return constant is not None and bool(np.all(constant >= 0))
        if producer.op_type in NON_NEGATIVE or self._is_relu(producer):
            return True
        if producer.op_type in SIGN_KEEPING:
            return self.is_non_negative(producer.input[0])
        return producer.op_type in SIGN_KEEPING_OF_ALL and all(self.is_non_negative(source) for source in producer.input)

    def key(self, node: NodeProto) -> str:
        """What tells a node from all others: its name, or its first output where it has no name or shares it."""
        return str(node.name if node.name and self._named[node.name] < 2 else next(filter(None, node.output), node.name))

    def unique(self, name: str) -> str:
        """`name`, or `name` with a number, that no tensor and no node of the model has; it is taken from now on."""
        return self._unique.unique(name)

    def add_constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add an initializer under a name that `unique` gave, and return it."""
        self._proto.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def rename_output(self, tensor: str, name: str) -> None:
        """Let the producer of a tensor call it `name`; those who read it do not change."""
        _, node = self._producers[tensor]
        node.output[list(node.output).index(tensor)] = name
        self._producers[name] = self._producers[tensor]

    def insert_first(self, nodes: Sequence[NodeProto]) -> None:
        """Put nodes that read initializers alone before all others, at the next `insert_after_producers`."""
        self._first.extend(nodes)

    def insert_after_producers(self, added: Mapping[str, Sequence[NodeProto]]) -> None:
        """Put the nodes added for each tensor right behind its producer (graph inputs: first), so that the order stays topological."""
        ordered = list(self._first)
        ordered += [node for tensor, nodes in added.items() if tensor not in self._producers for node in nodes]
        behind: dict[int, list[NodeProto]] = {}
        for tensor, nodes in added.items():
            if tensor in self._producers:
                behind.setdefault(self._producers[tensor][0], []).extend(nodes)
        for position, node in enumerate(self.nodes):
            ordered += [node, *behind.get(position, [])]
        self.replace_nodes(ordered)

    def replace_nodes(self, ordered: Sequence[NodeProto]) -> None:
        """Let the graph hold these nodes, in this order, and no others. The index is that of before."""
        copies = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del self._proto.node[:]
        self._proto.node.extend(copies)

    def drop_unused_initializers(self) -> None:
        """Remove initializers that no node reads any more."""
        read = {tensor for node in self._proto.node for tensor in node.input} | self.outputs | self.captured
        kept = [tensor for tensor in self._proto.initializer if tensor.name in read]
        del self._proto.initializer[:]
        self._proto.initializer.extend(kept)

    def producer(self, tensor: str) -> Optional[NodeProto]:
        """The node that makes a tensor; None for inputs, initializers and what is made inside an inner graph."""
        return self._producers[tensor][1] if tensor in self._producers else None

    def _is_relu(self, node: NodeProto) -> bool:
        if node.op_type == "Relu":
            return True
        if node.op_type != "Clip" or len(node.input) < 2 or not node.input[1]:
            return False
        minimum = self.constant(node.input[1])
        return minimum is not None and float(minimum) == 0.0


def _captured(graph: GraphProto) -> Iterator[str]:
    """Names of tensors that graphs inside the nodes of `graph` (If, Loop, Scan) read or return."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                yield from (tensor for inside in inner.node for tensor in inside.input)
                yield from (output.name for output in inner.output)
                yield from _captured(inner)
