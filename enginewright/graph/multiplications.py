"""How many multiplications each layer of a model does for one image: what a share of layers in INT8 is worth."""

from __future__ import annotations

from math import prod
from typing import Optional

from onnx import ModelProto, NodeProto

from enginewright.graph.shapes import Shape, tensor_shapes


def multiplications(model: ModelProto) -> dict[str, Optional[int]]:
    """Multiplications of each Conv, ConvTranspose, Gemm and MatMul for a batch of one, by the name of its first output;
    None where shapes are unknown.

    Conv: each output value takes one a weight of its channel. ConvTranspose: each input value meets the weights of
    its channel. Gemm and MatMul: each output value takes one an element of the axis that is summed over.
    """
    shapes = tensor_shapes(model, batch=1)
    return {
        node.output[0]: _of_node(node, shapes)
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
    }


def _of_node(node: NodeProto, shapes: dict[str, Shape]) -> Optional[int]:
    first, second, result = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if node.op_type == "Conv":
        return _product(result, second, without=1)  # [N, M, ...] and [M, C / group, ...]: M stands in both
    if node.op_type == "ConvTranspose":
        return _product(first, second, without=1)  # [N, C, ...] and [C, M / group, ...]: C stands in both
    if first is None or not first:
        return None
    transposed = node.op_type == "Gemm" and any(
        attribute.name == "transA" and attribute.i for attribute in node.attribute
    )
    return _product(result, (first[0 if transposed else -1],))


def _product(shape: Optional[Shape], other: Optional[Shape], without: Optional[int] = None) -> Optional[int]:
    """The product of all axes of both, the axis `without` of the first left out; None if one is unknown."""
    if shape is None or other is None:
        return None
    axes = [*(axis for place, axis in enumerate(shape) if place != without), *other]
    return prod(axis for axis in axes if axis is not None) if all(axis is not None for axis in axes) else None
