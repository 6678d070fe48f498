"""Scales of activations as QuantizeLinear/DequantizeLinear nodes in an ONNX graph, in the two placements that backends
really execute.

One file cannot serve both (docs/decisions/0007-two-qdq-files.md). Both hold the same scales, so one calibration feeds
all backends. Source of the placements: NVIDIA, "TensorRT Developer Guide", "Explicit quantization"; ONNX Runtime, QDQ
selectors in onnxruntime/core/optimizer/qdq_transformer/selectors_actions.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper

from enginewright.config import Placement
from enginewright.errors import CalibrationMismatch, ModelError, nearest
from enginewright.graph.constants import operator
from enginewright.graph.fold import fold_factors
from enginewright.graph.index import Graph
from enginewright.graph.placements import Choice, Pairs, pairs
from enginewright.graph.reasons import COMPANIONS, SAME_SCALE, Case, is_quantizable, reasons, stored_operands

Floats = npt.NDArray[np.float32]

MINIMUM_OPSET = 13  # per-channel DequantizeLinear
MINIMUM_IR = 7  # that of opset 13; before 4, every initializer had to be listed as an input
INT32_MAX = 2**31 - 1
# ONNX Runtime takes these into integer kernels, where they stand between a DQ and a Q.
FUSED = ("Softmax", "Where", *(operator for operator in COMPANIONS if operator not in SAME_SCALE))


@dataclass(frozen=True)
class Quantization:
    """real = scale * (quantized - zero_point)."""

    scale: float
    zero_point: int
    dtype: npt.DTypeLike


def quantizable(model: ModelProto) -> list[NodeProto]:
    """The Conv, ConvTranspose, Gemm and MatMul nodes of a model's main graph, in its order: what INT8 is about."""
    return [node for node in model.graph.node if is_quantizable(node)]


def insert_qdq(
    model: ModelProto, scales: Mapping[str, float], placement: Placement, exclude: Collection[str] = ()
) -> ModelProto:
    """Return a copy of a float model with scales as Q/DQ nodes; the opset stays, inputs and outputs stay float32.

    BatchNormalization is folded first where it can be, so that weights have the scales of the folded layer. Activations
    get one scale a tensor, weights one an output channel: max |w| / 127 (Conv: axis 0; ConvTranspose: axis 1, in groups
    one for all; Gemm: axis 0 if transB, else 1; MatMul: the last, and one for all of a factor on the left, of a vector
    and of a stack of matrices). A bias correction is made before (`enginewright.graph.bias`).

    Args:
        model: FP32, opset 13 or later, without Q/DQ nodes.
        scales: tensor -> amax / 127, by the names of the model's tensors; further names are left alone, TensorRT writes
            some that ONNX does not know.
        placement: which backend's.
        exclude: names of nodes that stay float; one without a name of its own goes by its first output. Others stay
            float for the reasons that `enginewright.graph.reasons.left_in_float` gives for the same arguments.

    Raises:
        CalibrationMismatch: a tensor that needs a scale has none: they belong to another model.
        ModelError: the opset is too old, the model carries Q/DQ nodes already, or `exclude` names a node that is not
            there.
    """
    require_quantizable(model, exclude)
    case = Case(model, scales, placement)
    return insert_into(case, scales, exclude, reasons(case, exclude))


def insert_into(case: Case, scales: Mapping[str, float], exclude: Collection[str], left: Collection[str]) -> ModelProto:
    """`insert_qdq` of a case, whose model is edited and returned; `left` is what `reasons` says of it."""
    result, placement = case.model, case.placement
    chosen = case.excluded(exclude)
    in_float = chosen | set(left)
    result.ir_version = max(result.ir_version, MINIMUM_IR)
    graph = case.graph
    keys = {id(node): case.key(node) for node in graph.nodes}  # before any of them gives its output another name
    layers = [node for node in graph.nodes if is_quantizable(node) and keys[id(node)] not in in_float]
    where = pairs(graph, Choice(layers, lambda node: keys[id(node)] in in_float, case.why_no_scale), placement)
    if placement is Placement.tensorrt:
        _leave_clipping_to_saturation(graph, where, scales, lambda node: keys[id(node)] in chosen)
    require_scales(scales, sorted(set(where.sources.values())), result.graph.name or "the model")
    formats = {tensor: _format(graph, source, scales[source], placement) for tensor, source in where.sources.items()}
    for node in layers:
        if operator(node) == "Gemm" and placement is Placement.onnxruntime:
            fold_factors(graph, node)
        for index in stored_operands(graph, node):
            _quantize_constant(graph, (node, index), formats.get(node.input[0]), placement)
    added = {
        tensor: _pair(graph, tensor, form, keeps_name=placement is Placement.onnxruntime)
        for tensor, form in formats.items()
    }
    for node, index in where.uses:
        node.input[index] = added[node.input[index]][-1].output[0]
    separated = (
        _kept_apart(graph, lambda node: keys[id(node)] in in_float, added) if placement is Placement.onnxruntime else {}
    )
    graph.insert_after_producers({**separated, **added})
    graph.drop_unused_initializers()
    return result


def require_scales(scales: Collection[str], tensors: Iterable[str], model: str) -> None:
    """Check that each of the tensors has a scale.

    Raises:
        CalibrationMismatch: naming the tensors of `model` that have none.
    """
    missing = [json.dumps(tensor) if "\n" in tensor else tensor for tensor in tensors if tensor not in scales]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise CalibrationMismatch(
            f"the calibration cache has no scale for {shown} of {model}: it belongs to another model; run `dvc"
            " repro calibrate`"
        )


def require_quantizable(model: ModelProto, exclude: Collection[str]) -> None:
    """Check what `insert_qdq` needs of a model. Raises ModelError."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < MINIMUM_OPSET:
        raise ModelError(
            f"{model.graph.name} has opset {opset}, and per-channel Q/DQ needs {MINIMUM_OPSET}; "
            "raise export.opset_version, or convert a file of other origin with onnx.version_converter"
        )
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise ModelError(f"{model.graph.name} carries Q/DQ nodes already; give the float model")
    graph = Graph(model)
    names = {name for node in graph.nodes for name in (node.name, graph.key(node)) if name}
    for name in exclude:
        if name not in names:
            raise ModelError(f"{model.graph.name} has no node '{name}' to leave in float{nearest(name, names)}")


def _leave_clipping_to_saturation(
    graph: Graph, where: Pairs, scales: Mapping[str, float], stays_float: Callable[[NodeProto], bool]
) -> None:
    """Make a Clip from 0 behind a float layer that INT8 alone reads a Relu, where the INT8 range ends no later: the
    same numbers.

    TensorRT 8.6.0 moves the Q in front of such a Clip and then clips integers: on an H200 the answers were noise
    (docs/h200.md).
    """
    read = Counter(node.input[index] for node, index in where.uses)
    for tensor, times in read.items():
        clip = graph.producer(tensor)
        if clip is None or operator(clip) != "Clip" or not graph.is_relu(clip):
            continue
        layer = graph.producer(clip.input[0])
        if layer is None or not stays_float(layer):  # a quantized layer takes the Clip into its kernel
            continue
        limit = graph.clipped_at(clip)
        read_otherwise = graph.read_elsewhere(tensor) or len(graph.consumers(tensor)) > times
        if (
            limit is not None
            and not read_otherwise
            and 127 * scales.get(tensor, math.inf) <= limit * (1 + np.finfo(np.float32).eps * 4)
        ):
            clip.op_type = "Relu"
            del clip.input[1:]


def _kept_apart(
    graph: Graph, stays_float: Callable[[NodeProto], bool], added: Mapping[str, Sequence[NodeProto]]
) -> dict[str, list[NodeProto]]:
    """What stands behind each float node that ONNX Runtime would take into an integer kernel, as it does between a DQ
    and a Q: a Max of one input.

    It is the function x -> x that no optimization removes. An Identity, or a Clip without limits, is gone before
    anything is fused.
    """
    dequantized, quantized = (
        {pair[-1].output[0] for pair in added.values()},
        {pair[0].input[0] for pair in added.values()},
    )
    made: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        reads = [tensor for tensor in node.input if tensor and not graph.is_constant(tensor)]
        if operator(node) in FUSED and reads and dequantized.issuperset(reads) and stays_float(node):
            result = node.output[0]
            if result not in quantized and not any(
                operator(reader) in (*SAME_SCALE, "Relu", "Clip") for reader in graph.consumers(result)
            ):
                continue  # no Q is behind it, nor is one moved there
            source = graph.unique(f"{result}_in_float")
            graph.rename_output(result, source)
            made[source] = [helper.make_node("Max", [source], [result], name=graph.unique(f"{result}_Max"))]
    return made


def _format(graph: Graph, tensor: str, scale: float, placement: Placement) -> Quantization:
    """The integer type of an activation; `scale` is amax / 127 as in the cache."""
    if not math.isfinite(scale) or scale < 0:
        raise CalibrationMismatch(
            f"the calibration cache has the scale {scale} for {tensor}; run `dvc repro calibrate`"
        )
    # TensorRT's calibrators write 0 for a tensor that was always zero; any positive scale keeps zeros exact.
    amax = 127 * scale if scale >= np.finfo(np.float32).tiny else 1.0
    if placement is Placement.tensorrt:
        return Quantization(amax / 127, 0, np.int8)
    if graph.is_non_negative(tensor):
        return Quantization(amax / 255, 0, np.uint8)
    return Quantization(amax / 127, 128, np.uint8)


def _pair(graph: Graph, tensor: str, form: Quantization, keeps_name: bool) -> list[NodeProto]:
    """Q and DQ for an activation. If `keeps_name`, who reads it elsewhere reads the dequantized one: its producer must
    feed Q alone.
    """
    source, result = tensor, tensor
    if keeps_name and graph.read_elsewhere(tensor) and graph.producer(tensor) is not None:
        source = graph.unique(f"{tensor}_float")
        graph.rename_output(tensor, source)
    else:
        result = graph.unique(f"{tensor}_dequantized")
    scale = graph.add_constant(graph.unique(f"{tensor}_scale"), np.float32(form.scale))
    zero_point = graph.add_constant(graph.unique(f"{tensor}_zero_point"), np.array(form.zero_point, form.dtype))
    return _qdq(graph, (source, graph.unique(f"{tensor}_quantized"), result), [scale, zero_point], None)


def _qdq(graph: Graph, tensors: tuple[str, str, str], parameters: list[str], axis: Optional[int]) -> list[NodeProto]:
    """Q and DQ between the real, the quantized and the dequantized tensor."""
    source, quantized, result = tensors
    names = [graph.unique(f"{quantized}_{operator}") for operator in ("QuantizeLinear", "DequantizeLinear")]
    nodes = [
        helper.make_node("QuantizeLinear", [source, *parameters], [quantized], name=names[0]),
        helper.make_node("DequantizeLinear", [quantized, *parameters], [result], name=names[1]),
    ]
    for node in nodes if axis is not None else []:
        node.attribute.append(helper.make_attribute("axis", axis))
    return nodes


def _quantize_constant(
    graph: Graph, use: tuple[NodeProto, int], activation: Optional[Quantization], placement: Placement
) -> None:
    """Put a constant factor of a layer, and for ONNX Runtime its bias as int32, behind Q/DQ."""
    node, index = use
    weight = graph.constant(node.input[index])
    assert weight is not None  # `reasons` saw it
    axis = _scale_axis(use, weight.ndim)
    exact = _weight_scale(weight, axis)
    bias = (
        graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] and operator(node) != "MatMul" else None
    )
    integer_bias = (
        placement is Placement.onnxruntime and activation is not None and bias is not None and bias.shape == exact.shape
    )
    if integer_bias and activation is not None and bias is not None:
        exact = np.maximum(
            exact, np.abs(bias.astype(np.float64)) / activation.scale / INT32_MAX * 2
        )  # else the bias overflows
    scale = _not_zero(exact)
    graph.insert_first(_constant_pair(graph, use, (weight, scale, axis), placement))
    if operator(node) in ("Conv", "ConvTranspose") and not any(
        attribute.name == "kernel_shape" for attribute in node.attribute
    ):
        node.attribute.append(
            helper.make_attribute("kernel_shape", weight.shape[2:])
        )  # TensorRT 8.6 cannot infer it behind a DequantizeLinear
    if integer_bias and activation is not None and bias is not None:
        graph.insert_first([_integer_bias(graph, node, bias, activation.scale * scale.astype(np.float64))])


def _constant_pair(
    graph: Graph, use: tuple[NodeProto, int], quantized: tuple[Floats, Floats, Optional[int]], placement: Placement
) -> list[NodeProto]:
    """The nodes of a constant factor's pair, which the layer reads from now on."""
    (node, index), (weight, scale, axis) = use, quantized
    source = node.input[index]
    prefix = graph.unique(f"{source}_int8")
    # ONNX Runtime multiplies by a left factor of the activations' type alone.
    zero_point = (
        np.zeros(scale.shape, np.int8)
        if index or placement is Placement.tensorrt
        else np.full(scale.shape, 128, np.uint8)
    )
    parameters = [
        graph.add_constant(graph.unique(f"{prefix}_{what}"), value)
        for what, value in (("scale", scale), ("zero_point", zero_point))
    ]
    integers, result = (graph.unique(f"{prefix}_{what}") for what in ("quantized", "dequantized"))
    if placement is Placement.onnxruntime:  # stored as int8: a quarter of the file; TensorRT wants FP32 -> Q
        graph.add_constant(
            integers, (_integers(weight, scale, axis) + zero_point.reshape(-1)[0]).astype(zero_point.dtype)
        )
        nodes = _qdq(graph, (source, integers, result), parameters, axis)[1:]
    else:
        stored = (
            source if graph.is_initializer(source) else graph.add_constant(graph.unique(f"{source}_stored"), weight)
        )
        nodes = _qdq(graph, (stored, integers, result), parameters, axis)
    node.input[index] = result
    return nodes


def _scale_axis(use: tuple[NodeProto, int], rank: int) -> Optional[int]:
    """The axis over which a constant factor has a scale each; None for one scale in all.

    One alone for a left factor, for a vector, whose only axis is summed over, and for a stack of matrices, of which
    ONNX Runtime's kernels take no other ("b zero point is not valid", github.com/microsoft/onnxruntime/issues/25489).
    """
    node, index = use
    if index == 0 or rank < 2 or (operator(node) == "MatMul" and rank > 2):
        return None
    return _channel_axis(node, rank)


def rounding_error(node: NodeProto, weight: Floats) -> Floats:
    """What INT8 adds to the weight of a layer, in the weight's shape: dequantized less exact."""
    axis = _scale_axis((node, 1), weight.ndim)
    scale = _not_zero(_weight_scale(weight, axis))
    error: Floats = (_integers(weight, scale, axis) * _along(scale, weight.ndim, axis) - weight).astype(np.float32)
    return error


def _weight_scale(weight: Floats, axis: Optional[int]) -> npt.NDArray[np.float64]:
    """Max |w| / 127, [channels] along `axis`, [] without one."""
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale: npt.NDArray[np.float64] = np.asarray(np.abs(weight).max(axis=others).astype(np.float64) / 127)
    return scale


def _not_zero(scale: npt.NDArray[np.float64]) -> Floats:
    """As float32; 1 for a channel of zeros."""
    return np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)


def _integers(weight: Floats, scale: Floats, axis: Optional[int]) -> Floats:
    integers: Floats = np.clip(np.rint(weight / _along(scale, weight.ndim, axis)), -127, 127)
    return integers


def _along(scale: Floats, rank: int, axis: Optional[int]) -> Floats:
    return scale if axis is None else scale.reshape([-1 if other == axis else 1 for other in range(rank)])


def _integer_bias(graph: Graph, node: NodeProto, bias: Floats, scale: npt.NDArray[np.float64]) -> NodeProto:
    prefix = graph.unique(f"{node.input[2]}_int32")
    integers = np.clip(np.rint(bias.reshape(-1) / scale), -INT32_MAX, INT32_MAX).astype(np.int32)
    inputs = [
        graph.add_constant(prefix, integers),
        graph.add_constant(graph.unique(f"{prefix}_scale"), scale.astype(np.float32)),
    ]
    node.input[2] = graph.unique(f"{prefix}_dequantized")
    return helper.make_node(
        "DequantizeLinear", inputs, [node.input[2]], name=graph.unique(f"{prefix}_DequantizeLinear"), axis=0
    )


def _channel_axis(node: NodeProto, rank: int) -> Optional[int]:
    """The axis of a weight that runs over output channels; None where there is none: each group of a ConvTranspose
    makes channels of its own.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return None if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute) else 1
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return rank - 1
