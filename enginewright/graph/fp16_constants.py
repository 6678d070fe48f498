"""The constants of a graph, and whether FP16 holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from enginewright.graph import stored
from enginewright.graph.constants import dense

Array = npt.NDArray[Any]

LARGEST = 65504.0
ROOM = 14.0  # powers of two: below 2^-14 a number loses bits, and what is multiplied by 2^14 may be over 4
PIECE = 2**20  # values
LEAST_ACCURACY = 1e-3  # relative error up to which FP16 holds a constant: 60 dB


class Constants:
    """Initializers and Constant nodes of a graph and, behind them, of the graph around it."""

    def __init__(self, graph: GraphProto, outer: Optional[Constants] = None) -> None:
        """Index `graph`, without reading a value."""
        self._outer = outer
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
        self._facts: dict[str, tuple[float, bool, bool]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._tensors or name in self._nodes or (self._outer is not None and name in self._outer)

    def array(self, name: str) -> Optional[Array]:
        """The value; None for what is computed, and for a string."""
        if name in self._tensors:
            return stored.array(self._tensors[name])
        if name in self._nodes:
            return constant_of(self._nodes[name])
        return self._outer.array(name) if self._outer is not None else None

    def size(self, name: str) -> float:
        """Of a constant's largest finite value (`size_of`); 0 for what is no float32 constant."""
        return self._known(name)[0]

    def is_held(self, name: str, each: bool) -> bool:
        """Whether FP16 holds a constant to LEAST_ACCURACY: as a whole, or `each` of its values by itself."""
        _, as_a_whole, by_itself = self._known(name)
        return by_itself if each else as_a_whole

    def _known(self, name: str) -> tuple[float, bool, bool]:
        if name not in self._facts:
            found = self.array(name)
            if found is None or found.dtype != np.float32:
                self._facts[name] = (0.0, True, True)
            else:
                self._facts[name] = (size_of(found), holds(found, False), holds(found, True))
        return self._facts[name]


def constant_of(node: NodeProto) -> Optional[Array]:
    """The value of a Constant or ConstantOfShape node that holds numbers."""
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.type == AttributeProto.TENSOR:
            return numpy_helper.to_array(attribute.t)
        if attribute.name == "value_float":
            return np.array(attribute.f, np.float32)
        if attribute.name == "value_floats":
            return np.array(attribute.floats, np.float32)
        if attribute.name == "sparse_value":
            return dense(attribute.sparse_tensor)
    return None


def size_of(values: Array) -> float:
    """The power of two of the largest finite value: where values are multiplied, sizes add. 0 for zeros alone."""
    magnitudes = [np.abs(piece[np.isfinite(piece)]).max(initial=0.0) for piece in _pieces(values)]
    largest = float(max(magnitudes, default=0.0))
    return math.log2(largest) if largest > 0 else 0.0


def beyond(size: float) -> float:
    """A size that leaves FP16's range, as what it multiplies is seldom exactly 1; else 0."""
    return size if abs(size) > ROOM else 0.0


def holds(values: Array, each: bool) -> bool:
    """Whether FP16 holds these numbers to LEAST_ACCURACY; infinity and NaN it has too."""
    noise = signal = 0.0
    for piece in _pieces(values):
        finite = piece[np.isfinite(piece)].astype(np.float64)
        errors = np.abs(finite - rounded(finite))
        if each and (errors > LEAST_ACCURACY * np.abs(finite)).any():
            return False
        noise, signal = noise + float(errors @ errors), signal + float(finite @ finite)
    return noise <= LEAST_ACCURACY**2 * signal


def rounded(values: Array) -> npt.NDArray[np.float16]:
    """The nearest FP16 numbers; what is finite stays finite."""
    with np.errstate(over="ignore"):
        half = np.asarray(values).astype(np.float16)
    beyond = np.isinf(half) & np.isfinite(values)
    return np.where(beyond, np.copysign(np.float16(LARGEST), half), half) if beyond.any() else half


def _pieces(values: Array) -> Iterator[Array]:
    """A large weight a bit at a time: what is computed of it takes no second copy."""
    flat = values.reshape(-1)
    return (flat[start : start + PIECE] for start in range(0, flat.size, PIECE))


def as_half(values: Array, name: str) -> TensorProto:
    """A float16 tensor."""
    return stored.tensor_of(rounded(values), name)


def normalization_factor(node: NodeProto, constants: Constants) -> Optional[Array]:
    """What a BatchNormalization multiplies each channel by; None if its parameters are computed."""
    scale, variance = constants.array(node.input[1]), constants.array(node.input[4])
    if scale is None or variance is None:
        return None
    return scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + _epsilon(node))


def holds_normalization(node: NodeProto, constants: Constants) -> bool:
    """Whether a BatchNormalization multiplies by the same if its scale and variance are FP16."""
    exact = normalization_factor(node, constants)
    scale, variance = constants.array(node.input[1]), constants.array(node.input[4])
    if exact is None or scale is None or variance is None:
        return True
    spread = np.maximum(rounded(variance).astype(np.float64) + _epsilon(node), np.finfo(np.float64).tiny)
    half = rounded(scale).astype(np.float64) / np.sqrt(spread)
    return bool(np.linalg.norm(half - exact) <= 2 * LEAST_ACCURACY * np.linalg.norm(exact))


def _epsilon(node: NodeProto) -> float:
    return next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
