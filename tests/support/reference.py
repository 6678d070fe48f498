"""A model run in float64 by onnx's own reference, its Q/DQ pairs included: what INT8 is held against.

`simulated` says what the Q/DQ graph means; an engine that differs from it by more than rounding computes something
else. It cannot say whether the graph means the right thing, as a wrong scale is wrong in both: `without_pairs` must be
the float model again, and `quantized_tensors` says which range each pair stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

Array = npt.NDArray[Any]


def in_float64(model: ModelProto) -> ModelProto:
    """A copy in which every float32 is a float64: weights, inputs, outputs, constants and Casts. Integers and halves
    stay.
    """
    result = ModelProto()
    result.CopyFrom(model)
    _widen(result.graph)
    return result


def simulated(model: ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What every tensor of a model holds when all its arithmetic is float64: inputs and outputs among them."""
    from onnx.reference import ReferenceEvaluator

    from support.reference_operators import OPERATORS

    wide = {name: values.astype(np.float64) if values.dtype == np.float32 else values for name, values in feeds.items()}
    with np.errstate(all="ignore"):
        found = dict(ReferenceEvaluator(in_float64(model), new_ops=list(OPERATORS)).run(None, wide, intermediate=True))
    return {**wide, **{name: np.asarray(values) for name, values in found.items() if name}}


def sqnr_db(reference: Array, got: Array) -> float:
    """Signal over noise in dB; infinite without noise, and minus infinity if `got` is not finite where the reference
    is.
    """
    with np.errstate(all="ignore"):
        finite = np.isfinite(reference)
        exact, other = reference[finite].astype(np.float64), got[finite].astype(np.float64)
        if not np.isfinite(other).all() or not np.array_equal(np.isnan(reference), np.isnan(got)):
            return -np.inf
        noise, signal = float(((exact - other) ** 2).sum()), float((exact**2).sum())
    if noise == 0:
        return float(np.inf)
    return float(10 * np.log10(signal / noise)) if signal else -float(np.inf)


@dataclass(frozen=True)
class Pair:
    """A QuantizeLinear of an activation."""

    tensor: str
    scale: float
    zero_point: int
    limits: tuple[int, int]

    @property
    def least(self) -> float:
        """The lowest number that it can hold."""
        return self.scale * (self.limits[0] - self.zero_point)

    @property
    def greatest(self) -> float:
        """The highest number that it can hold."""
        return self.scale * (self.limits[1] - self.zero_point)


def quantized_tensors(model: ModelProto) -> list[Pair]:
    """Every QuantizeLinear whose input is computed or fed."""
    constants = _constants(model.graph)
    pairs = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants:
            zero_point = constants[node.input[2]]
            limits = np.iinfo(zero_point.dtype)
            pairs.append(
                Pair(
                    node.input[0], float(constants[node.input[1]]), int(zero_point), (int(limits.min), int(limits.max))
                )
            )
    return pairs


def without_pairs(model: ModelProto) -> ModelProto:
    """A copy that no longer rounds: each Q hands its input on, and so does each DQ behind one. Weights that are stored
    as integers stay so.

    Of TensorRT's placement this is the float model again, in other words; of ONNX Runtime's it is that with rounded
    weights.
    """
    result = ModelProto()
    result.CopyFrom(model)
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for node in result.graph.node:
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] in rounded):
            node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name))
    del result.graph.value_info[:]
    return result


def _constants(graph: GraphProto) -> dict[str, Array]:
    found: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found.update(
        {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in graph.node if _holds_tensor(node)}
    )
    return found


def _holds_tensor(node: NodeProto) -> bool:
    return node.op_type == "Constant" and bool(node.attribute) and node.attribute[0].name == "value"


def _widen(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
        for inner in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            _widen(inner)
    if node.op_type == "Constant":
        _widen_constant(node)
    elif node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(np.zeros(1), "value")))


def _widen_constant(node: NodeProto) -> None:
    """`value_float` and `value_floats` are float32 by their name."""
    for attribute in node.attribute:
        if attribute.name in ("value_float", "value_floats"):
            value = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float64)
            attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(value, "value")))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
