"""A batch of 1 that is written into a graph made dynamic, where the graph allows.

An exporter that was shown one image writes its 1 into Reshape, Concat, Resize and the first state of a recurrent layer.
Which of these mean the batch is found by shape inference with a batch that no other axis is divisible by: an axis that
it divides holds the batch. Whoever calls this proves the result by running it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper, shape_inference

from enginewright.graph.constants import operator
from enginewright.graph.index import Graph, without_weights
from enginewright.interface import BATCH

MARK = 10007  # a batch, and a prime: an axis of the model that it divides holds the batch
RECURRENT = ("LSTM", "GRU", "RNN")
STATES = (5, 6)  # initial_h and initial_c among the inputs of a recurrent layer: [directions, batch, size]
SIZES = 3  # among the inputs of Resize

Shape = Optional[tuple[Optional[int], ...]]


def free_batch(model: ModelProto, places: Mapping[str, int]) -> None:
    """Make a batch of 1 dynamic, in place: under the name BATCH, in the inputs and wherever the graph repeats it.

    Args:
        model: its inputs have 1 at these places.
        places: input -> the axis that is the batch.
    """
    _Freed(model, places).run()


class _Freed:
    """The work on one model."""

    def __init__(self, model: ModelProto, places: Mapping[str, int]) -> None:
        self.model, self.places = model, places
        self.graph = Graph(model)
        self.shapes: dict[str, Shape] = {}
        self._batch: Optional[str] = None  # a tensor [1] that holds the batch

    def run(self) -> None:
        """Mend one node after another, from the input on: what stands behind it is then seen as it is."""
        del self.model.graph.value_info[:]
        self.infer()
        done: set[str] = set()
        while (node := next((one for one in self.model.graph.node if self.mend(one, done)), None)) is not None:
            done.add(node.output[0])
            self.infer()
        for name, place in self.places.items():
            value = next(one for one in self.model.graph.input if one.name == name)
            value.type.tensor_type.shape.dim[place].dim_param = BATCH
        for value in self.model.graph.output:
            self.declare(value)

    def declare(self, value: ValueInfoProto) -> None:
        """Let an output declare no axis that follows the batch, but for its name where it is the batch."""
        shape = self.shapes.get(value.name)
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            size = shape[place] if shape is not None and place < len(shape) else None
            if size is None or size % MARK == 0:
                axis.ClearField("dim_value")
            if size == MARK:
                axis.dim_param = BATCH

    def infer(self) -> None:
        """See the graph as it is now, at a batch of MARK."""
        self.graph = Graph(self.model)
        bare = without_weights(self.model.graph, self.model.opset_import)
        bare.ir_version = self.model.ir_version
        for value in bare.graph.input:
            if value.name in self.places:
                value.type.tensor_type.shape.dim[self.places[value.name]].dim_value = MARK
        for value in bare.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            found = shape_inference.infer_shapes(bare, data_prop=True).graph
        except (shape_inference.InferenceError, RuntimeError):
            found = bare.graph
        self.shapes = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
        for value in (*found.input, *found.value_info, *found.output):
            kind = value.type.tensor_type
            if value.type.HasField("tensor_type") and kind.HasField("shape"):
                self.shapes[value.name] = tuple(
                    axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim
                )

    def mend(self, node: NodeProto, done: set[str]) -> bool:
        """Whether a node held the batch, and now follows it."""
        kind = operator(node)
        if not node.output or node.output[0] in done:
            return False
        if kind == "Reshape":
            return self.reshape(node)
        if kind == "Concat":
            return self.concat(node)
        if kind == "Resize":
            return self.resize(node)
        return kind in RECURRENT and self.recurrent(node)

    def axis(self, tensor: str) -> Optional[int]:
        """The axis of a tensor that holds the batch."""
        shape = self.shapes.get(tensor) or ()
        return next((place for place, size in enumerate(shape) if size and size % MARK == 0), None)

    def reshape(self, node: NodeProto) -> bool:
        """A target that says 1 where the data has the batch takes it over (0), or all that is left (-1)."""
        place = self.axis(node.input[0])
        if place is None:
            return False
        shape = self.shapes[node.input[0]] or ()
        keeps = not any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
        target = self.graph.constant(node.input[1])
        if target is None:
            return keeps and shape[place] == MARK and self.pieces(node, place)
        sizes = [int(size) for size in target.reshape(-1)]
        if keeps and shape[place] == MARK and place < len(sizes) and sizes[place] == 1:
            sizes[place] = 0
        elif (mended := _with_rest(sizes, shape, place, keeps)) is not None:
            sizes = mended
        else:
            return False
        self.constant(node, 1, sizes)
        return True

    def pieces(self, node: NodeProto, place: int) -> bool:
        """A target put together of numbers, some of them computed."""
        concat = self.graph.producer(node.input[1])
        if concat is None or operator(concat) != "Concat":
            return False
        at = 0
        for index, piece in enumerate(concat.input):
            value, shape = self.graph.constant(piece), self.shapes.get(piece)
            size = value.size if value is not None else shape[0] if shape and shape[0] is not None else None
            if size is None:
                return False
            if value is not None and at <= place < at + size:
                sizes = [int(one) for one in value.reshape(-1)]
                if sizes[place - at] != 1:
                    return False
                sizes[place - at] = 0
                copied = NodeProto.FromString(concat.SerializeToString())
                copied.output[0] = self.graph.unique(f"{node.output[0]}_shape")
                copied.name = self.graph.unique(f"{copied.name or copied.output[0]}_freed")
                self.constant(copied, index, sizes)
                self.before(node, [copied])
                self.read(node, 1, copied.output[0])
                return True
            at += size
        return False

    def concat(self, node: NodeProto) -> bool:
        """What has no batch is repeated for each row beside what has it."""
        along = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        shapes = [self.shapes.get(tensor) for tensor in node.input]
        places = {self.axis(tensor) for tensor in node.input} - {None}
        if len(places) != 1 or any(shape is None for shape in shapes):
            return False
        place = next(one for one in places if one is not None)
        rank = max(len(shape or ()) for shape in shapes)
        if rank < 2 or place == along % rank:  # of one axis: numbers of a shape
            return False
        behind = [index for index, shape in enumerate(shapes) if shape and shape[place] == 1]
        for index in behind:
            self.expand(node, index, place, rank)
        return bool(behind)

    def recurrent(self, node: NodeProto) -> bool:
        """The first state of a recurrent layer is repeated for each row."""
        if self.axis(node.input[0]) != 1:
            return False
        held = [index for index in STATES if index < len(node.input) and node.input[index]]
        behind = [index for index in held if (self.shapes.get(node.input[index]) or (0, 0))[1] == 1]
        for index in behind:
            self.expand(node, index, 1, 3)
        return bool(behind)

    def resize(self, node: NodeProto) -> bool:
        """Sizes that are written out begin with the batch."""
        if len(node.input) <= SIZES or not node.input[SIZES] or self.axis(node.input[0]) != 0:
            return False
        sizes = self.graph.constant(node.input[SIZES])
        if sizes is None or sizes.size < 2 or int(sizes[0]) != 1:
            return False
        rest = self.graph.add_constant(self.graph.unique(f"{node.output[0]}_size"), sizes[1:].astype(np.int64))
        made = helper.make_node("Concat", [self.batch(), rest], [self.graph.unique(f"{node.output[0]}_sizes")], axis=0)
        self.before(node, [made])
        self.read(node, SIZES, made.output[0])
        return True

    def expand(self, node: NodeProto, index: int, place: int, rank: int) -> None:
        """Repeat an input of a node along an axis, once for each row."""
        tensor, batch = node.input[index], self.batch()
        ones = [
            self.graph.add_constant(self.graph.unique(f"{tensor}_ones"), np.ones(count, np.int64)) if count else ""
            for count in (place, rank - place - 1)
        ]
        shape = self.graph.unique(f"{tensor}_rows_shape")
        repeated = self.graph.unique(f"{tensor}_rows")
        self.before(
            node,
            [
                helper.make_node("Concat", [one for one in (ones[0], batch, ones[1]) if one], [shape], axis=0),
                helper.make_node("Expand", [tensor, shape], [repeated]),
            ],
        )
        self.read(node, index, repeated)

    def batch(self) -> str:
        """A tensor [1] that holds the batch, made once, first in the graph."""
        if self._batch is None:
            name, place = next(iter(self.places.items()))
            shape, self._batch = self.graph.unique(f"{name}_shape"), self.graph.unique(f"{name}_batch")
            index = self.graph.add_constant(self.graph.unique(f"{name}_batch_axis"), np.array([place], np.int64))
            made = [
                helper.make_node("Shape", [name], [shape]),
                helper.make_node("Gather", [shape, index], [self._batch], axis=0),
            ]
            nodes = [NodeProto.FromString(node.SerializeToString()) for node in self.model.graph.node]
            del self.model.graph.node[:]
            self.model.graph.node.extend([*made, *nodes])
        return self._batch

    def constant(self, node: NodeProto, index: int, sizes: Sequence[int]) -> None:
        name = self.graph.unique(f"{node.output[0]}_target")
        self.model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
        if any(one.output and one.output[0] == node.output[0] for one in self.model.graph.node):
            self.read(node, index, name)
        else:
            node.input[index] = name

    def read(self, node: NodeProto, index: int, tensor: str) -> None:
        """Let a node of the graph read another tensor."""
        self.at(node).input[index] = tensor

    def before(self, node: NodeProto, added: Sequence[NodeProto]) -> None:
        """Put nodes right before another."""
        place = next(place for place, one in enumerate(self.model.graph.node) if one.output[:1] == node.output[:1])
        nodes = [NodeProto.FromString(one.SerializeToString()) for one in self.model.graph.node]
        del self.model.graph.node[:]
        self.model.graph.node.extend([*nodes[:place], *added, *nodes[place:]])

    def at(self, node: NodeProto) -> NodeProto:
        """The node of the graph that makes the same tensor: nodes are copied where others are put before them."""
        found: NodeProto = next(one for one in self.model.graph.node if one.output[:1] == node.output[:1])
        return found


def _with_rest(sizes: Sequence[int], shape: tuple[Optional[int], ...], place: int, keeps: bool) -> Optional[list[int]]:
    """A target of Reshape in which the axis that takes the batch is -1; None if that is none, or it follows already.

    Args:
        sizes: the target as it is.
        shape: of the data, at a batch of MARK.
        place: the axis of the data that holds the batch.
        keeps: whether 0 stands for the axis of the data.
    """
    if any(size is None for size in shape):
        return None
    known = [int(size) for size in shape if size is not None]
    own = [known[index] if size == 0 and keeps and index < len(known) else size for index, size in enumerate(sizes)]
    total, held = _product(known), _product([size for size in own if size != -1])
    if not held or held % MARK == 0:  # a 0 takes the batch over
        return None
    if -1 in own:
        own[own.index(-1)] = total // MARK // held
    if _product(own) * MARK != total:
        return None
    before = _product(known[:place])
    taking = next((index for index in range(len(own)) if _product(own[:index]) == before), None)
    if taking is None or sizes[taking] == -1:  # which takes the batch as it is
        return None
    own[taking] = -1
    return own


def _product(sizes: Sequence[int]) -> int:
    """As Python counts: a large image at a batch of MARK is over 64 bits."""
    return math.prod(map(int, sizes))
