"""A random ONNX graph as it grows: names, weights and where they are kept, and what every tensor's shape is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

# What generated names end with: a model may have any of them already.
SUFFIXES = (
    "_scale",
    "_zero_point",
    "_quantized",
    "_dequantized",
    "_float",
    "_int8",
    "_int8_scale",
    "_int32",
    "_bias",
    "_folded",
    "_cast",
    "_2",
    "_error",
    "_shift",
)
ODD = (
    "a: b",
    "a\u2028b",
    "a\x0bb",
    "a\x85b",
    "a\nb: 3f800000",
    "/\u00fc/x:0",
    "0",
    " ",
    "a b",
    "a,b",
    "'q'",
    "x" * 300,
    "a\tb",
    "*",
    "(Unnamed Layer* 0) [Conv]_output",
)
NAMINGS = ("plain", "torch", "colliding", "odd")


@dataclass(frozen=True)
class Tensor:
    """A tensor with a dynamic batch before these axes."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Values of one image."""
        return int(np.prod(self.shape))


class Draft:
    """What a graph holds so far. Everything random comes from `rng`."""

    def __init__(self, seed: int) -> None:
        """Choose what holds for the whole graph: names, opset, who has names, and the input."""
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.names: set[str] = set()
        self.naming = self.pick(NAMINGS)
        self.node_naming = self.pick(("all", "all", "some", "none", "colliding"))
        self.opset = int(self.pick((13, 14, 15, 16, 17, 17, 17, 17, 18, 19, 20)))
        self.hidden_weights = self.chance(0.3)  # behind Constant, Identity, Transpose and Cast
        self.shared: dict[tuple[int, ...], str] = {}
        self.seen: set[str] = set()
        self.input = Tensor(self.fresh("input"), self._input_shape())
        self.pool: list[Tensor] = [self.input]

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of them."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        """Whether it happens."""
        return bool(self.rng.random() < probability)

    def once(self, what: str, times: int = 1) -> bool:
        """Whether this is among the first `times` questions for `what`: squares of squares leave every range."""
        for number in range(times):
            if f"{what}{number}" not in self.seen:
                self.seen.add(f"{what}{number}")
                return True
        return False

    def fresh(self, base: str) -> str:
        """A name that nothing has yet, in the graph's way of naming."""
        candidate = base
        if self.naming == "torch":
            candidate = f"/blocks.{len(self.nodes)}/{base}_output_0"
        elif self.naming == "colliding" and self.names and self.chance(0.5):
            candidate = str(self.pick(sorted(self.names)))[:80] + str(self.pick(SUFFIXES))
        elif self.naming == "odd" and self.chance(0.4):
            candidate = str(self.pick(ODD))
        name, number = candidate, 1
        while name in self.names:
            number += 1
            name = f"{candidate}_{number}"
        self.names.add(name)
        return name

    def node(self, operator: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> Tensor:
        """Add a node with one output."""
        return self.nodes_of(operator, inputs, [shape], **attributes)[0]

    def nodes_of(
        self, operator: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> list[Tensor]:
        """Add a node with an output for each of the shapes."""
        outputs = [self.fresh(operator.lower()) for _ in shapes]
        self.nodes.append(
            helper.make_node(operator, list(inputs), outputs, name=self._node_name(operator), **attributes)
        )
        return [Tensor(name, tuple(int(axis) for axis in shape)) for name, shape in zip(outputs, shapes)]

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Random float32 numbers."""
        values: Array = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        return values

    def constant(self, values: Any, base: str = "constant") -> str:
        """A stored tensor: an initializer, or at times a Constant node or an Identity of an initializer."""
        array = np.asarray(values)
        name = self.fresh(base)
        if self.hidden_weights and self.chance(0.4):
            return self._hidden(array, name)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, fan_in: Optional[int] = None, base: str = "weight") -> str:
        """A weight whose products keep the size of what it multiplies; at times one that another layer has too."""
        if shape in self.shared and self.chance(0.25):
            return self.shared[shape]
        name = self.constant(self.normal(*shape, scale=1 / np.sqrt(fan_in or max(1, int(np.prod(shape[1:]))))), base)
        self.shared[shape] = name
        return name

    def model(self, outputs: Sequence[Tensor]) -> ModelProto:
        """The finished graph."""
        graph = helper.make_graph(
            self.nodes, "fuzz", [_value(self.input)], [_value(tensor) for tensor in outputs], self.weights
        )
        ir_version = 10 if self.opset >= 21 else 8
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir_version)

    def _hidden(self, array: Array, name: str) -> str:
        stored = self.fresh("stored")
        form = self.pick(("Constant", "Constant", "Identity", "Cast", "Transpose"))
        if form == "Cast" and array.dtype == np.float32 and array.size > 1:
            self.weights.append(numpy_helper.from_array(array.astype(np.float16), stored))
            self.nodes.append(
                helper.make_node("Cast", [stored], [name], name=self._node_name("Cast"), to=TensorProto.FLOAT)
            )
        elif form == "Transpose" and array.ndim == 2:
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array.T), stored))
            self.nodes.append(
                helper.make_node("Transpose", [stored], [name], name=self._node_name("Transpose"), perm=[1, 0])
            )
        elif form == "Identity":
            self.weights.append(numpy_helper.from_array(array, stored))
            self.nodes.append(helper.make_node("Identity", [stored], [name], name=self._node_name("Identity")))
        else:
            self.nodes.append(
                helper.make_node(
                    "Constant", [], [name], name=self._node_name("Constant"), value=numpy_helper.from_array(array)
                )
            )
        return name

    def _node_name(self, operator: str) -> str:
        if self.node_naming == "none" or (self.node_naming == "some" and self.chance(0.3)):
            return ""
        if self.node_naming == "colliding" and self.names and self.chance(0.3):
            name = f"{self.pick(sorted(self.names))}_quantized_{self.pick(('QuantizeLinear', 'DequantizeLinear'))}"
            if name not in {node.name for node in self.nodes}:  # ONNX Runtime takes no two nodes of one name
                return name
        return f"{operator}_{len(self.nodes)}"

    def _input_shape(self) -> tuple[int, ...]:
        rank = int(self.pick((4, 4, 4, 4, 3, 3, 3, 2, 5)))
        size = [int(self.pick((3, 4, 6, 8)))]
        if rank == 2:
            return (int(self.pick((6, 8, 12, 16))),)
        if rank == 3:
            return (int(self.rng.integers(4, 8)), int(self.pick((8, 12, 16))))
        return tuple(
            size + [int(self.rng.integers(5, 11) if rank == 4 else self.rng.integers(4, 6)) for _ in range(rank - 2)]
        )


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, ["n", *tensor.shape])
