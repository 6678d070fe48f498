"""Whether a tensor may hold an infinity, or nothing at all, known before anything runs: it then has no range, and no
scale.

An attention mask of -inf is no fault: Softmax makes 0 of it. Nor is a tensor that had no value on any calibration
image, as where nothing was detected. Both are told from a fault by where they come from, as the weights and images of
a sound model give neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from enginewright.graph.constants import names_of, operator
from enginewright.graph.index import Graph

Array = npt.NDArray[Any]

BOUNDLESS = 1e30  # a finite stand-in for infinity, such as the lowest float32: a scale for it would round all else to 0
BOUNDED = ("Softmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Softsign", "Exp")  # finite for -inf
NOT_REAL = (
    "Shape",
    "Size",
    "NonZero",
    "ArgMax",
    "ArgMin",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Not",
    "IsInf",
    "IsNaN",
)
# The weights of a layer or a normalization are not masks: an infinity there comes from a training that diverged.
WEIGHTED = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "PRelu",
)
# How many values these give depends on values.
COUNTED = (
    "NonZero",
    "NonMaxSuppression",
    "Compress",
    "Unique",
    "Loop",
    "Scan",
    "If",
    "SequenceAt",
    "ConcatFromSequence",
)


class Values:
    """Of one graph; each question is answered by one pass over its nodes."""

    def __init__(self, graph: Graph) -> None:
        """`graph`: a model's main graph."""
        self._graph = graph

    def why_no_range(self, tensor: str) -> Optional[str]:
        """Why calibration may have found no range for a tensor, in a clause; None if it must have found one."""
        if tensor in self.infinite:
            return f"{tensor} holds infinity, as '{self.infinite[tensor]}' does"
        if self._graph.element_type(tensor) not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
            return f"{tensor} holds {self.type_of(tensor)}, not float32"
        if tensor not in self.fed:
            return (
                f"{tensor} does not depend on the image, and calib.cache has no scale for it;"
                " calibration.runtime=onnxruntime may give it one"
            )
        if tensor in self._countable:
            return f"{tensor} had no value on the calibration images"
        return None

    def type_of(self, tensor: str) -> str:
        """The type of a tensor in words: float16."""
        return str(TensorProto.DataType.Name(self._graph.element_type(tensor))).lower()

    @cached_property
    def fed(self) -> set[str]:
        """The tensors whose values depend on those of an input, and not only on its shape."""

        def starts(node: NodeProto, found: set[str]) -> bool:
            return operator(node) != "Shape" and not found.isdisjoint(names_of([node]))

        return self._following({name for name in self._graph.inputs if not self._graph.is_constant(name)}, starts)

    @cached_property
    def infinite(self) -> dict[str, str]:
        """Tensors that may hold an infinity which the model has on purpose -> the constant that it comes from."""
        found: dict[str, str] = {}
        for node in self._graph.nodes:
            kind = operator(node)
            if (
                kind in NOT_REAL
                or kind in BOUNDED
                or (kind == "Clip" and len([tensor for tensor in node.input if tensor]) == 3)
            ):
                continue
            read = [
                tensor
                for tensor in (node.input[1:] if kind == "Where" else node.input)
                if tensor in found or self._is_mask(node, tensor)
            ]
            source = found.get(read[0], read[0]) if read else None
            if source is None and kind == "ConstantOfShape" and _fills_with_infinity(node):
                source = node.name or node.output[0]
            if source is not None:
                found.update(dict.fromkeys(filter(None, node.output), source))
        return found

    @cached_property
    def _countable(self) -> set[str]:
        """Tensors that may hold no value: an axis is empty, or how long it is depends on values."""

        def starts(node: NodeProto, found: set[str]) -> bool:
            shapes = [self._graph.static_shape(tensor) for tensor in node.output if tensor]
            unknown = operator(node) == "Slice" and any(shape is None or None in shape for shape in shapes)
            return (
                unknown
                or any(0 in (shape or ()) for shape in shapes)
                or operator(node) in COUNTED
                or any(tensor in found for tensor in node.input)
            )

        empty = {name for name in self._graph.inputs if 0 in (self._graph.static_shape(name) or ())}
        return self._following(empty, starts)

    def _following(self, known: set[str], joins: Callable[[NodeProto, set[str]], bool]) -> set[str]:
        found = set(known)
        for node in self._graph.nodes:
            if joins(node, found):
                found.update(filter(None, node.output))
        return found

    def _is_mask(self, node: NodeProto, tensor: str) -> bool:
        """Whether a node reads this constant for the infinity in it."""
        if not self._graph.is_constant(tensor) or operator(node) in WEIGHTED:
            return False
        if tensor not in self._extremes:
            value = self._graph.constant(tensor)
            self._extremes[tensor] = (
                extremes(value) if value is not None and value.dtype.kind == "f" and value.size else (0.0, 0.0)
            )
        least, greatest = self._extremes[tensor]
        if (operator(node) == "Add" and greatest == np.inf) or (
            operator(node) in ("Mul", "Div") and np.inf in (-least, greatest)
        ):
            return False  # a sum with +inf, and 0 times an infinity, are no masks
        return max(-least, greatest) >= BOUNDLESS

    @cached_property
    def _extremes(self) -> dict[str, tuple[float, float]]:
        return {}


def extremes(values: Array) -> tuple[float, float]:
    """The least and the greatest value, NaN if there is one; 0 and 0 of nothing."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def is_boundless(values: Array) -> bool:
    """Whether a tensor's values have no range that a scale could stand for, though each is a number."""
    least, greatest = extremes(values)
    return max(-least, greatest) >= BOUNDLESS  # not so of NaN


def _fills_with_infinity(node: NodeProto) -> bool:
    fills: Iterable[Any] = (
        helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == "value"
    )
    return any(is_boundless(numpy_helper.to_array(fill)) for fill in fills)
