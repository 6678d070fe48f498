"""What stays in FP32 when a graph is converted to FP16, and why (docs/decisions/0019-fp16-conversion.md).

Convolutions and matrix products compute in FP16, unless their weights or what they read lie outside its range. What
stays is small: arithmetic on shapes and constants, preparation of the input, the inner part of normalizations written
by hand, indices and coordinates, and what is masked with numbers that FP16 does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Optional

from onnx import AttributeProto, NodeProto, TensorProto

from enginewright.graph.fp16_constants import (
    LARGEST,
    Constants,
    beyond,
    constant_of,
    holds_normalization,
    normalization_factor,
    size_of,
)
from enginewright.graph.fp16_operators import (
    BOUNDED,
    COORDINATES,
    ELEMENTWISE,
    JOINING,
    LIMITING,
    PASSING,
    PRODUCTS,
    RANDOM,
    SCALING,
    SENSITIVE,
    STEPS,
    STRETCHING,
    WIDE_INTEGERS,
)

FINISHES = "it scales or shifts what a normalization in FP32 gives"
FOLLOWED = "a root, a logarithm, a divisor, an index or a coordinate is made of it"


class Kept:
    """The nodes of one graph that stay in FP32: `reasons`, by their place."""

    def __init__(
        self,
        nodes: Sequence[NodeProto],
        constants: Constants,
        type_of: Callable[[str], int],
        inputs: Collection[str],
        outer: Optional[Kept] = None,
    ) -> None:
        """`inputs`: what the model is given from outside; `outer`: of the graph around this one."""
        self.reasons: dict[int, str] = {}
        self._nodes, self._constants, self._type_of, self._outer = nodes, constants, type_of, outer
        self._producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
        self._static: set[str] = set()  # depends on shapes and constants alone
        self._given = set(inputs)  # an input of the model, or one brought to another scale
        self._stretched: set[str] = set()  # may be far beyond what a node of STRETCHING read
        self._sizes: dict[str, float] = {}  # powers of two, as far as constants tell
        for index, node in enumerate(nodes):
            self._forward(index, node)
        for index, node in enumerate(nodes):
            self._backward(index, node)
        for index, node in enumerate(nodes):
            self._finish_normalization(index, node)

    def size(self, name: str) -> float:
        """Of a tensor of this graph or of one around it."""
        if name in self._constants:
            return self._constants.size(name)
        if name in self._sizes:
            return self._sizes[name]
        return self._outer.size(name) if self._outer is not None and name not in self._producers else 0.0

    def is_static(self, name: str) -> bool:
        """Whether a tensor depends on shapes and constants alone."""
        if not name or name in self._static or name in self._constants:
            return True
        return self._outer is not None and name not in self._producers and self._outer.is_static(name)

    def is_stretched(self, name: str) -> bool:
        """Whether a tensor may be far beyond FP16's range while what it is made of is not."""
        if name in self._stretched or self._outer is None or name in self._producers:
            return name in self._stretched
        return self._outer.is_stretched(name)

    def _forward(self, index: int, node: NodeProto) -> None:
        """Decide what a node's inputs say of it, and what it says of its outputs."""
        outputs = [name for name in node.output if name]
        size = self._size_of(node)
        self._sizes.update(dict.fromkeys(outputs, size))
        stretches = self._stretches(node)
        if stretches and self._stays_stretched(node):
            self._stretched.update(outputs)
        if self._is_static_node(node):
            self._static.update(outputs)
            self._keep(index, "it computes with shapes and constants alone")
            return
        if self._is_given(node):
            self._given.update(outputs)
            self._keep(index, "it prepares the model's input")
        elif node.op_type in PRODUCTS and any(name in self._given and self.is_stretched(name) for name in node.input):
            self._keep(index, "it reads integers of the model's input, which may be beyond FP16's range")
        unheld = self._unheld(node)
        if unheld is not None:
            self._keep(index, f"FP16 does not hold its constant {unheld}")
        if beyond(size) or any(beyond(self.size(name)) for name in node.input if name not in self._constants):
            self._keep(index, "it works on numbers outside FP16's range")
        if stretches:
            self._keep(index, "sums, powers and quotients may leave FP16's range")
        if node.op_type in STEPS or self._leaves_float32(node):
            self._keep(index, "a rounded input may be another answer")

    def _backward(self, index: int, node: NodeProto) -> None:
        """Follow what a sensitive node reads back to where it is made."""
        first = SENSITIVE.get(node.op_type, 0 if self._leaves_float32(node) else None)
        if first is None or index not in self.reasons:
            return
        waiting = [name for name in node.input[first:] if name]
        joins = node.op_type in COORDINATES or self._leaves_float32(node)
        while waiting:
            place = self._producers.get(waiting.pop())
            if place is None or self.reasons.get(place) == FOLLOWED:
                continue
            producer = self._nodes[place]
            if node.op_type == "Log" and producer.op_type in ("Softmax", "Sigmoid"):
                self._keep(place, "a logarithm reads it")
            if self._is_followed(producer, joins):
                self.reasons[place] = FOLLOWED
                waiting += [name for name in producer.input if name and not self.is_static(name)]

    def _finish_normalization(self, index: int, node: NodeProto) -> None:
        """Gain and shift behind a normalization by hand: ONNX Runtime fuses all into one node, which takes one type.

        That is the type of what it normalizes, before a Cast: gain and shift stay in FP32 where that stays in FP32 too.
        """
        before = {"Mul": ("Div", "Mul"), "Add": ("Mul",)}.get(node.op_type, ())
        dynamic = self._dynamic(node)
        place = self._producers.get(dynamic[0]) if len(dynamic) == 1 else None
        if place is None or place not in self.reasons or self._nodes[place].op_type not in before:
            return
        if self.reasons[place] == FINISHES or self._normalizes_float32(self._nodes[place]):
            self._keep(index, FINISHES)

    def _normalizes_float32(self, node: NodeProto) -> bool:
        """Whether a Div or Mul brings a tensor that is made in FP32, less its mean or not, to a root's scale."""
        sources = [name for name in node.input if not self._is_root(name)]
        if len(sources) != 1:
            return False
        place = self._producers.get(sources[0])
        if place is not None and self._nodes[place].op_type == "Sub":
            place = self._producers.get(self._nodes[place].input[0])
        return place is None or place in self.reasons

    def _is_root(self, name: str) -> bool:
        place = self._producers.get(name)
        return place is not None and self._nodes[place].op_type in ("Sqrt", "Reciprocal")

    def _is_static_node(self, node: NodeProto) -> bool:
        if node.op_type in ("Shape", "Size"):
            return True
        holds_graph = any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute)
        if holds_graph or node.op_type in (*PRODUCTS, *RANDOM):
            return False
        return all(self.is_static(name) for name in node.input)

    def _is_given(self, node: NodeProto) -> bool:
        """Preparation inside the model, such as a division by 65535: its constants say nothing of the result's size."""
        if node.op_type not in (*ELEMENTWISE, *PASSING):
            return False
        dynamic = self._dynamic(node)
        return bool(dynamic) and all(name in self._given for name in dynamic)

    def _dynamic(self, node: NodeProto) -> list[str]:
        return [name for name in node.input if name and not self.is_static(name)]

    def _size_of(self, node: NodeProto) -> float:
        """Of a node's outputs."""
        if node.op_type in BOUNDED or not node.input:
            return 0.0
        if node.op_type == "ConstantOfShape":
            value = constant_of(node)
            return 0.0 if value is None else size_of(value)
        first = self.size(node.input[0])
        if node.op_type in SCALING:
            found = self._product_size(node, first)
            return max(found, 0.0) if self._is_given(node) else found
        read = node.input[:1]
        if node.op_type in JOINING:
            read = node.input[1 if node.op_type == "Where" else 0 :]
        elif node.op_type in LIMITING:
            read = [name for index, name in enumerate(node.input) if not self._is_no_limit(node, index)]
        return max((self.size(name) for name in read if name), default=0.0)

    def _product_size(self, node: NodeProto, first: float) -> float:
        """Of what multiplies, divides or takes a root; weights count only where they are out of the range
        themselves.
        """
        if node.op_type == "Mul":
            return first + self.size(node.input[1])
        if node.op_type == "Div":
            return first - self.size(node.input[1])
        if node.op_type == "Reciprocal":
            return -first
        if node.op_type == "Sqrt":
            return first / 2
        if node.op_type == "BatchNormalization":
            factor = normalization_factor(node, self._constants)
            return first if factor is None else first + beyond(size_of(factor))
        return beyond(first) + beyond(self.size(node.input[1]))

    def _unheld(self, node: NodeProto) -> Optional[str]:
        """The first constant of a node that FP16 does not hold."""
        if node.op_type == "BatchNormalization":
            return None if holds_normalization(node, self._constants) else str(node.input[4])
        each = node.op_type in ("Div", "Pow", "Clip", "Max", "Min")
        for index, name in enumerate(node.input):
            if name not in self._constants or (node.op_type == "Resize" and index > 0):
                continue
            if not self._is_no_limit(node, index) and not self._constants.is_held(name, each):
                return str(name)
        return None

    def _is_no_limit(self, node: NodeProto, index: int) -> bool:
        """Whether an input is a limit that no FP16 number reaches, or a padding, for which the range's end will do."""
        name = node.input[index]
        side = LIMITING.get(node.op_type, {}).get(index if node.op_type in ("Clip", "Pad") else 0)
        if side is None or name not in self._constants or 2.0 ** self._constants.size(name) <= LARGEST:
            return False
        values = self._constants.array(name)
        return values is not None and not (side * values > LARGEST).any()

    def _stretches(self, node: NodeProto) -> bool:
        if node.op_type in PRODUCTS:
            return False
        if (
            node.op_type in STRETCHING
            or _accumulates(node)
            or any(self.is_stretched(name) for name in node.input if name)
        ):
            return True
        if node.op_type == "Div":
            return not self.is_static(node.input[1])
        if node.op_type == "Cast":
            return self._type_of(node.input[0]) in WIDE_INTEGERS
        return node.op_type == "Mul" and node.input[0] == node.input[1]

    def _stays_stretched(self, node: NodeProto) -> bool:
        """Not behind a function that bounds it, nor once it has scaled another tensor, as a norm does: x / norm(x)."""
        if node.op_type in BOUNDED or (node.op_type == "Sqrt" and self.is_static(node.input[0])):
            return False
        if node.op_type in ("Mul", "Div") and self._is_given(node):  # integers brought to another scale
            return False
        if node.op_type in STRETCHING or _accumulates(node) or node.op_type not in ELEMENTWISE:
            return True
        dynamic = set(self._dynamic(node))
        sums = node.op_type not in ("Mul", "Div")
        return sums or len(dynamic) == 1 or all(self.is_stretched(name) for name in dynamic)

    def _leaves_float32(self, node: NodeProto) -> bool:
        """A Cast to an integer, or to a type that asks for more than float32."""
        return node.op_type == "Cast" and self._type_of(node.output[0]) not in (TensorProto.FLOAT, TensorProto.FLOAT16)

    def _is_followed(self, node: NodeProto, joins: bool) -> bool:
        """Arithmetic on one tensor and constants, or on a tensor and its mean; with `joins`, on any two tensors."""
        dynamic = set(self._dynamic(node))
        if node.op_type in PASSING or node.op_type.startswith("Reduce"):
            return len(dynamic) == 1 or joins
        if node.op_type not in ELEMENTWISE:
            return joins and node.op_type in ("Sigmoid", "Tanh")
        return joins or len(dynamic) == 1 or any(self._is_reduced(name) for name in dynamic)

    def _is_reduced(self, name: str) -> bool:
        """Whether a sum, mean or maximum makes a tensor, or arithmetic on one alone."""
        place = self._producers.get(name)
        while place is not None and not self._nodes[place].op_type.startswith("Reduce"):
            node = self._nodes[place]
            dynamic = self._dynamic(node)
            goes_on = len(dynamic) == 1 and node.op_type in (*ELEMENTWISE, *PASSING)
            place = self._producers.get(dynamic[0]) if goes_on else None
        return place is not None

    def _keep(self, index: int, reason: str) -> None:
        self.reasons.setdefault(index, reason)


def _accumulates(node: NodeProto) -> bool:
    """A Scatter that adds or multiplies; ONNX Runtime has some of these in float32 alone."""
    return node.op_type.startswith("Scatter") and any(
        attribute.name == "reduction" and attribute.s != b"none" for attribute in node.attribute
    )
