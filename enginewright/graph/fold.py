"""BatchNormalization folded into the layer before it, so that INT8 scales of weights are those of the layer that runs.

y = (x * w + b - mean) * k + shift with k = scale / sqrt(variance + epsilon) is one layer of weights w * k and bias (b -
mean) * k + shift (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 3.2). Backends do the same to a float model. Behind Q/DQ nodes they no longer may, and
ONNX Runtime folds into Conv alone: so it is done here, for every INT8 graph alike, before a pair is placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, ModelProto, NodeProto, helper

from enginewright.graph.index import Graph

Floats = npt.NDArray[np.float64]

BATCH_NORMALIZATION = "BatchNormalization"
FOLDED_INTO = ("Conv", "ConvTranspose", "Gemm")
PARAMETERS = ("scale", "shift", "mean", "variance")


def fold_batch_normalization(model: ModelProto) -> ModelProto:
    """Return a copy of a float model without those BatchNormalization nodes that `why_unfoldable` finds nothing
    against. Folding the copy again changes nothing.

    The layer takes over the name of the normalized tensor, so that a scale for it still has its place. Computed in
    float64 and stored in the type of the weights; the answers differ by rounding alone.
    """
    result = ModelProto()
    result.CopyFrom(model)
    while _fold_all(Graph(result)):  # a BatchNormalization behind another one has a layer before it now
        pass
    return result


def _fold_all(graph: Graph) -> bool:
    """Fold each BatchNormalization that stands behind a layer; whether there was one."""
    folded = [
        node for node in graph.nodes if node.op_type == BATCH_NORMALIZATION and why_unfoldable(graph, node) is None
    ]
    for node in folded:
        _fold(graph, node)
    if folded:
        gone = {node.output[0] for node in folded}
        # By output, as the layer now has the same one: the node that goes is the one of this type.
        kept = [node for node in graph.nodes if not (node.op_type == BATCH_NORMALIZATION and node.output[0] in gone)]
        graph.replace_nodes(kept)
        graph.drop_unused_initializers()
    return bool(folded)


def why_unfoldable(graph: Graph, node: NodeProto) -> Optional[str]:
    """None if a BatchNormalization can be folded into the layer that makes its input, else why it cannot, in words."""
    if graph.producer(node.output[0]) is None:
        return "it lies inside a branch or a loop"
    layer = graph.producer(node.input[0])
    if layer is None:
        return "no layer makes its input"
    named = f"'{layer.name or layer.output[0]}' ({layer.op_type})"
    if layer.op_type not in FOLDED_INTO:
        return f"its input comes from {named}, which is no convolution"
    if (
        any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
        or len([name for name in node.output if name]) > 1
    ):
        return "it is in training mode"
    return _other_reader(graph, node, named) or _unfoldable_numbers(graph, node, layer, named)


def _other_reader(graph: Graph, node: NodeProto, named: str) -> Optional[str]:
    source = node.input[0]
    if source in graph.outputs:
        return f"the output of {named} is an output of the model too"
    if len(graph.consumers(source)) > 1 or source in graph.captured:
        others = [reader.name or reader.op_type for reader in graph.consumers(source) if reader != node]
        return f"the output of {named} is read by {', '.join(map(repr, others)) or 'a branch or a loop'} too"
    return None


def _unfoldable_numbers(graph: Graph, node: NodeProto, layer: NodeProto, named: str) -> Optional[str]:
    computed = [name for name, tensor in zip(PARAMETERS, node.input[1:]) if graph.constant(tensor) is None]
    if computed:
        return f"its {' and '.join(computed)} {'is' if len(computed) == 1 else 'are'} computed in the graph, not stored"
    if any(tensor and graph.constant(tensor) is None for tensor in layer.input[1:]):
        return f"weights of {named} are computed in the graph, not stored"
    factor, shift = _affine(graph, node)
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        return "its variance is not positive, or a number of it is no number"
    channels = output_channels(layer, _constant(graph, layer.input[1]).shape)
    return None if factor.size == channels else f"it has {factor.size} channels, and {named} makes {channels}"


def foldable_into(graph: Graph, node: NodeProto) -> str:
    """Name of the layer that makes the input of a BatchNormalization for which `why_unfoldable` is None."""
    layer = graph.producer(node.input[0])
    assert layer is not None  # as the caller made sure
    return str(layer.name or layer.output[0])


def _fold(graph: Graph, node: NodeProto) -> None:
    layer = graph.producer(node.input[0])
    weight = graph.constant(layer.input[1]) if layer is not None else None
    assert layer is not None  # why_unfoldable saw both
    assert weight is not None
    factor, shift = _affine(graph, node)
    bias = bias_of(graph, layer)
    new_bias = shift if bias is None else bias * factor + shift
    new_weight = weight.astype(np.float64) * _along_outputs(layer, weight, factor)
    layer.input[1] = graph.add_constant(
        graph.unique(f"{layer.input[1]}_folded"), new_weight.astype(weight.dtype)
    )  # another layer may share the old ones
    set_bias(graph, layer, new_bias.astype(weight.dtype))
    layer.output[0] = node.output[0]


def set_bias(graph: Graph, layer: NodeProto, bias: npt.NDArray[Any]) -> None:
    """Give a Conv, ConvTranspose or Gemm this bias, added as it is: under a new name, as another layer may share the
    old one.

    Args:
        graph: which holds the layer.
        layer: edited in place.
        bias: [channels], in the type of the weights; of a Gemm [rows, channels] too.
    """
    inputs = [*layer.input[:2], graph.add_constant(graph.unique(f"{layer.output[0]}_bias"), bias)]
    del layer.input[:]
    layer.input.extend(inputs)
    _drop_attribute(layer, "beta")  # of Gemm: it is in the new bias


def _affine(graph: Graph, node: NodeProto) -> tuple[Floats, Floats]:
    """Factor and shift of each channel, float64 [C] both: y = x * factor + shift."""
    scale, shift, mean, variance = (_constant(graph, tensor).reshape(-1) for tensor in node.input[1:5])
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(variance + float(_attribute(node, "epsilon", 1e-5)))
        return factor, shift - mean * factor


def fold_factors(graph: Graph, layer: NodeProto) -> None:
    """Multiply alpha and beta of a Gemm with a stored weight into what they multiply, and give it its bias as
    [channels], unless its rows differ.

    The function stays. ONNX Runtime's integer Gemm multiplies the bias by alpha, so that its optimizer leaves such a
    layer in float.
    """
    weight, alpha, bias = graph.constant(layer.input[1]), float(_attribute(layer, "alpha", 1.0)), bias_of(graph, layer)
    assert weight is not None  # chosen by the caller
    if alpha != 1.0:
        layer.input[1] = graph.add_constant(
            graph.unique(f"{layer.input[1]}_times_alpha"), (weight.astype(np.float64) * alpha).astype(weight.dtype)
        )
        _drop_attribute(layer, "alpha")
    channels = output_channels(layer, weight.shape)
    stored = graph.constant(layer.input[2]) if bias is not None else None
    if (
        bias is not None
        and stored is not None
        and (float(_attribute(layer, "beta", 1.0)) != 1.0 or stored.shape != (channels,))
    ):
        set_bias(graph, layer, (np.broadcast_to(bias, channels) if bias.ndim < 2 else bias).astype(weight.dtype))
    _drop_attribute(layer, "beta")


def bias_of(graph: Graph, layer: NodeProto) -> Optional[Floats]:
    """The layer's bias as it is added, None without one: [channels], or [1] for all of them; of a Gemm whose rows
    differ, [rows, channels or 1].
    """
    if len(layer.input) < 3 or not layer.input[2]:
        return None
    bias = _constant(graph, layer.input[2])
    if bias.ndim < 2 or bias.shape[0] == 1:  # else a column or a matrix: a Gemm may add another value to each row
        bias = bias.reshape(-1)
    return bias * (float(_attribute(layer, "beta", 1.0)) if layer.op_type == "Gemm" else 1.0)


def output_channels(layer: NodeProto, shape: Sequence[int]) -> int:
    """How many channels a Conv, ConvTranspose or Gemm with a weight of this shape makes."""
    if layer.op_type == "Gemm":
        return shape[0] if _attribute(layer, "transB", 0) else shape[1]
    return shape[0] if layer.op_type == "Conv" else shape[1] * int(_attribute(layer, "group", 1))


def _constant(graph: Graph, tensor: str) -> Floats:
    value = graph.constant(tensor)
    assert value is not None  # why_unfoldable saw it
    return value.astype(np.float64)


def _along_outputs(layer: NodeProto, weight: npt.NDArray[Any], factor: Floats) -> Floats:
    """The factor of each output channel in a shape that multiplies the weight.

    Conv: [M, C / group, ...]; ConvTranspose: [C, M / group, ...], where each group of input channels makes its own M /
    group outputs; Gemm: [N, K] if transB, else [K, N].
    """
    if layer.op_type == "Gemm":
        return factor[:, None] if _attribute(layer, "transB", 0) else factor[None, :]
    rest = (1,) * (weight.ndim - 2)
    if layer.op_type == "Conv":
        return factor.reshape(-1, 1, *rest)
    group = int(_attribute(layer, "group", 1))
    return np.repeat(factor.reshape(group, -1), weight.shape[0] // group, axis=0).reshape(weight.shape[0], -1, *rest)


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next(
        (helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == name), default
    )


def _drop_attribute(node: NodeProto, name: str) -> None:
    kept = [
        AttributeProto.FromString(attribute.SerializeToString())
        for attribute in node.attribute
        if attribute.name != name
    ]
    del node.attribute[:]
    node.attribute.extend(kept)
