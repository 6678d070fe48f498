"""An ONNX graph, indexed for inserting Q/DQ nodes: who makes a tensor, who reads it, what is constant, what cannot be
negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from enginewright.graph import stored
from enginewright.graph.constants import Constants, names_of, operator
from enginewright.graph.names import Names, inner_graphs

NON_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs")
SIGN_KEEPING = (
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Dropout",
)
SIGN_KEEPING_OF_ALL = ("Add", "Mul", "Concat")
USUAL_OPSET = 17  # of a graph that comes without its model
DATA_IS_A_SHAPE = 1024  # initializers up to so many values may be shapes, which type inference reads


class Graph:
    """A view of a model's main graph that edits it in place. Of inner graphs (If, Loop, Scan) it knows only what they
    read.
    """

    def __init__(self, proto: Union[ModelProto, GraphProto], names: Optional[Names] = None) -> None:
        """Index `proto` as it is now. `names`: where others make names for the same model too."""
        self._proto = proto.graph if isinstance(proto, ModelProto) else proto
        self._opsets = (
            list(proto.opset_import) if isinstance(proto, ModelProto) else [helper.make_opsetid("", USUAL_OPSET)]
        )
        self._functions = list(proto.functions) if isinstance(proto, ModelProto) else []
        self._model, self._names = proto, names
        self.nodes: list[NodeProto] = list(self._proto.node)
        self.inputs = {value.name for value in self._proto.input}
        self.outputs = {output.name for output in self._proto.output}
        self.captured: set[str] = set()  # tensors that inner graphs read: nobody's `consumers`
        for node in self.nodes:
            for inner in inner_graphs(node):
                self.captured |= names_of(inner.node) | {output.name for output in inner.output}
        self._constants = Constants(self._proto, self.nodes, self._opsets)
        self._producers = {
            tensor: (position, node) for position, node in enumerate(self.nodes) for tensor in node.output if tensor
        }
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for tensor in node.input:
                self._consumers.setdefault(tensor, []).append(node)
        self._named = Counter(node.name for node in self.nodes)
        self._first: list[NodeProto] = []
        self._non_negative: Optional[set[str]] = None
        self._types: Optional[dict[str, Any]] = None

    def constant(self, tensor: str) -> Optional[npt.NDArray[Any]]:
        """The value of an initializer, a Constant node or what is computed from these alone; None for anything else."""
        return self._constants.value(tensor)

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor depends neither on an input nor on its shape. Costs nothing: the value is not computed."""
        return tensor in self._constants

    def is_initializer(self, tensor: str) -> bool:
        """Whether a tensor is stored in the graph itself, so that a node in any place may read it."""
        return self._constants.is_initializer(tensor)

    def constant_shape(self, tensor: str) -> Optional[tuple[int, ...]]:
        """The shape of a constant."""
        return self._constants.shape(tensor)

    def consumers(self, tensor: str) -> Sequence[NodeProto]:
        """The nodes that read a tensor, once for each of their inputs that does."""
        return self._consumers.get(tensor, [])

    def read_elsewhere(self, tensor: str) -> bool:
        """Whether a tensor is an output of the model, or read by a graph inside a node, beside its `consumers`."""
        return tensor in self.outputs or tensor in self.captured

    def position(self, tensor: str) -> int:
        """Where in the graph's order a tensor is made; -1 for inputs and initializers."""
        return self._producers[tensor][0] if tensor in self._producers else -1

    def producer(self, tensor: str) -> Optional[NodeProto]:
        """The node that makes a tensor; None for inputs, initializers and what is made inside an inner graph."""
        return self._producers[tensor][1] if tensor in self._producers else None

    def is_conv_output(self, tensor: str) -> bool:
        """Whether a Conv makes this tensor, directly or through a BatchNormalization, which backends fold into it."""
        producer = self.producer(tensor)
        if producer is not None and operator(producer) == "BatchNormalization":
            producer = self.producer(producer.input[0])
        return producer is not None and operator(producer) == "Conv"

    def behind_relu(self, tensor: str) -> str:
        """The output of the Relu, or Clip from 0, that alone reads a tensor; else the tensor. Backends fuse these into
        the layer before.
        """
        consumers = self.consumers(tensor)
        if len(consumers) == 1 and not self.read_elsewhere(tensor) and self.is_relu(consumers[0]):
            return str(consumers[0].output[0])
        return tensor

    def is_relu(self, node: NodeProto) -> bool:
        """Whether a node is a Relu, or a Clip from 0."""
        return operator(node) == "Relu" or (operator(node) == "Clip" and self._clips_from(node) == 0.0)

    def is_non_negative(self, tensor: str) -> bool:
        """Whether no value of a tensor can be negative, by the operators that lead to it."""
        if self._non_negative is None:
            self._non_negative = set()
            for node in self.nodes:  # in their order, so that what a node reads is known
                if self._gives_non_negative(node):
                    self._non_negative.add(node.output[0])
        if tensor in self._producers:
            return tensor in self._non_negative
        return self._is_non_negative_constant(tensor)

    def element_type(self, tensor: str) -> int:
        """TensorProto's type of a tensor's values; UNDEFINED where ONNX's inference does not reach it."""
        value = self._inferred().get(tensor)
        return int(value.elem_type) if value is not None else TensorProto.UNDEFINED

    def static_shape(self, tensor: str) -> Optional[tuple[Optional[int], ...]]:
        """The shape of a tensor, None for an axis that is not known beforehand; None if its rank is not."""
        value = self._inferred().get(tensor)
        if value is None or not value.HasField("shape"):
            return None
        return tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in value.shape.dim)

    def key(self, node: NodeProto) -> str:
        """What tells a node from all others: its name, or its first output where it has no name or shares it."""
        return str(
            node.name if node.name and self._named[node.name] < 2 else next(filter(None, node.output), node.name)
        )

    def unique(self, name: str) -> str:
        """`name`, or `name` with a number, that no tensor and no node of the model has; it is taken from now on."""
        if self._names is None:
            self._names = Names(self._model)
        return self._names.unique(name)

    def add_constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add an initializer under a name that `unique` gave, and return it."""
        tensor = stored.tensor_of(np.asarray(value), name)
        self._proto.initializer.append(tensor)
        self._constants.add(tensor)
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
        """Put the nodes added for each tensor right behind its producer (graph inputs: first), so that the order stays
        topological.
        """
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
        """Remove constants that nothing reads any more, and weights from the inputs, where old exporters list them."""
        nodes = list(self._proto.node)
        read = Counter(
            tensor for node in nodes for tensor in (*node.input, *(names_of([node]) - set(node.input)))
        ) + Counter(self.outputs)
        gone: set[int] = set()
        for position in reversed(range(len(nodes))):
            node = nodes[position]
            if any(node.output) and all(
                not tensor or (self.is_constant(tensor) and not read[tensor]) for tensor in node.output
            ):
                gone.add(position)
                read.subtract(node.input)
        if gone:
            self.replace_nodes([node for position, node in enumerate(nodes) if position not in gone])
        kept = [tensor for tensor in self._proto.initializer if read[tensor.name] > 0]
        sparse = [tensor for tensor in self._proto.sparse_initializer if read[tensor.values.name] > 0]
        real = [value for value in self._proto.input if not self.is_constant(value.name)]
        for field, values in (
            (self._proto.initializer, kept),
            (self._proto.sparse_initializer, sparse),
            (self._proto.input, real),
        ):
            if len(field) != len(values):
                del field[:]
                field.extend(values)

    def _clips_from(self, node: NodeProto) -> Optional[float]:
        """The least value that a Clip gives, None if unknown: with limits in the wrong order it gives the upper one
        alone.
        """
        minimum, maximum = (self._limit(node, index) for index in (1, 2))
        if minimum is None or (maximum is None and len(node.input) > 2 and node.input[2]):
            return None
        return minimum if maximum is None else min(minimum, maximum)

    def _limit(self, node: NodeProto, index: int) -> Optional[float]:
        """A limit of a Clip, of shape [] or [1]; None where it is left out or computed."""
        value = self.constant(node.input[index]) if len(node.input) > index and node.input[index] else None
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def clipped_at(self, node: NodeProto) -> Optional[float]:
        """The greatest value that a Clip gives, where that is a constant."""
        return self._limit(node, 2)

    def _gives_non_negative(self, node: NodeProto) -> bool:
        """Whether the first output of a node cannot be negative; its inputs are known already."""
        kind, known = operator(node), self._non_negative or set()

        def non_negative(tensor: str) -> bool:
            return tensor in known or (tensor not in self._producers and self._is_non_negative_constant(tensor))

        if kind in NON_NEGATIVE:
            return True
        if kind == "Clip":
            least = self._clips_from(node)
            return (least is not None and least >= 0) or (non_negative(node.input[0]) and self._keeps_sign(node))
        if kind == "Constant":
            return self._is_non_negative_constant(node.output[0])
        if kind in SIGN_KEEPING:
            return non_negative(node.input[0])
        squared = kind == "Mul" and node.input[0] == node.input[1]
        return squared or (kind in SIGN_KEEPING_OF_ALL and all(non_negative(source) for source in node.input))

    def _keeps_sign(self, node: NodeProto) -> bool:
        """Whether a Clip gives no negative value for one that is not: its upper limit is left out or not negative."""
        maximum = self._limit(node, 2)
        return len(node.input) < 3 or not node.input[2] or (maximum is not None and maximum >= 0)

    def _is_non_negative_constant(self, tensor: str) -> bool:
        value = self.constant(tensor)
        return value is not None and value.dtype != object and bool(np.all(value >= 0))

    def _inferred(self) -> dict[str, Any]:
        """Tensor -> its type, by ONNX's inference on a copy without weights, which may be too large for one message."""
        if self._types is None:
            bare = without_weights(self._proto, self._opsets, self._functions)
            try:
                inferred = shape_inference.infer_shapes(bare).graph
            except (
                shape_inference.InferenceError
            ):  # ONNX Runtime takes some files that ONNX does not: a node of the domain `ai.onnx`
                inferred = bare.graph
            values = [*inferred.input, *inferred.value_info, *inferred.output]
            self._types = {
                tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims).tensor_type
                for tensor in inferred.initializer
            }
            self._types.update(
                {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}
            )
        return self._types


def without_weights(graph: GraphProto, opsets: Sequence[Any], functions: Sequence[Any] = ()) -> ModelProto:
    """A model whose large initializers have a type and a shape but no values: what type inference needs, small."""
    result = helper.make_model(GraphProto(name=graph.name), opset_imports=list(opsets), functions=list(functions))
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(result.graph, field).extend(getattr(graph, field))
    for tensor in graph.initializer:
        large = int(np.prod(tensor.dims)) > DATA_IS_A_SHAPE
        result.graph.initializer.append(
            TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims) if large else tensor
        )
    return result
