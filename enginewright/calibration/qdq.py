"""Scales of calib.cache as QuantizeLinear/DequantizeLinear nodes in an ONNX graph, in the two placements that backends really execute.

One file cannot serve both (docs/decisions/0007-two-qdq-files.md). Both hold the same scales, so one calibration feeds all backends.
Source of the placements: NVIDIA, "TensorRT Developer Guide", "Explicit quantization"; ONNX Runtime, QDQ selectors in
onnxruntime/core/optimizer/qdq_transformer/selectors_actions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper

from enginewright.calibration.bias import corrected
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.fold import fold_factors
from enginewright.calibration.graph import Graph
from enginewright.calibration.reasons import COMPANIONS, SAME_SCALE, excluded, is_quantizable, left_in_float
from enginewright.config import Placement
from enginewright.errors import CalibrationMismatch, ModelError, nearest

Floats = npt.NDArray[np.float32]

MINIMUM_OPSET = 13  # per-channel DequantizeLinear
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


def insert_qdq(model: ModelProto, cache: CalibrationCache, placement: Placement, exclude: Collection[str] = ()) -> ModelProto:
    """Return a copy of a float model with the cache's scales as Q/DQ nodes; the opset stays, inputs and outputs stay float32.

    BatchNormalization is folded first where it can be, so that weights have the scales of the folded layer; then the cache's bias correction is made.
    Activations get one scale a tensor, weights one an output channel: max |w| / 127 (Conv: axis 0; ConvTranspose: axis 1, in groups one for all;
    Gemm: axis 0 if transB, else 1; MatMul: the last).

    Args:
        model: FP32, opset 13 or later, without Q/DQ nodes.
        cache: scales by the names of the model's tensors; further names are left alone, TensorRT writes some that ONNX does not know.
        placement: which backend's.
        exclude: names of nodes that stay float; one without a name of its own goes by its first output. Others stay float for the reasons that
            `enginewright.calibration.reasons.left_in_float` gives for the same arguments.

    Raises:
        CalibrationMismatch: the cache lacks a tensor that needs a scale: it belongs to another model.
        ModelError: the opset is too old, the model carries Q/DQ nodes already, or `exclude` names a node that is not there.
    """
    _refuse(model, exclude)
    left = left_in_float(model, cache, placement, exclude)
    result = corrected(model, cache.shifts, {*exclude, *left})
    graph = Graph(result)
    floats = excluded(graph, exclude) | set(left)
    layers = [node for node in quantizable(result) if graph.key(node) not in floats and graph.constant(node.input[1]) is not None]
    activations = [node for node in quantizable(result) if graph.key(node) not in floats and graph.constant(node.input[1]) is None]
    if placement is Placement.tensorrt:
        uses = [(node, 0) for node in layers] + [(node, index) for node in activations for index in (0, 1)]
        uses += list(_residual_inputs(graph, floats))
        uses += [use for use in _depthwise_outputs(graph, layers) if use not in uses]
        sources = {node.input[index]: node.input[index] for node, index in uses}
        _leave_clipping_to_saturation(graph, uses, cache, excluded(graph, exclude))
    else:
        sources = _chain(graph, layers + activations, floats)
        uses = [(node, index) for node in graph.nodes for index, tensor in enumerate(node.input) if tensor in sources]
    cache.require(sorted(set(sources.values())), model.graph.name or "the model")
    formats = {tensor: _format(graph, source, cache.scales[source], placement) for tensor, source in sources.items()}
    for node in layers:
        if node.op_type == "Gemm" and placement is Placement.onnxruntime:
            fold_factors(graph, node)
        _quantize_weight(graph, node, formats[node.input[0]], placement)
    pairs = {tensor: _pair(graph, tensor, form, keeps_name=placement is Placement.onnxruntime) for tensor, form in formats.items()}
    for node, index in uses:
        node.input[index] = pairs[node.input[index]][-1].output[0]
    apart = _kept_apart(graph, floats, pairs) if placement is Placement.onnxruntime else {}
    graph.insert_after_producers({**apart, **pairs})
    graph.drop_unused_initializers()
    return result


def _refuse(model: ModelProto, exclude: Collection[str]) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < MINIMUM_OPSET:
        raise ModelError(f"{model.graph.name} has opset {opset}, and per-channel Q/DQ needs {MINIMUM_OPSET}; raise export.opset_version")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise ModelError(f"{model.graph.name} carries Q/DQ nodes already; give the float model")
    graph = Graph(model)
    names = {name for node in graph.nodes for name in (node.name, graph.key(node)) if name}
    for name in exclude:
        if name not in names:
            raise ModelError(f"{model.graph.name} has no node '{name}' to leave in float{nearest(name, names)}")


def _residual_inputs(graph: Graph, floats: Collection[str]) -> Iterator[tuple[NodeProto, int]]:
    """The skip input of each Add that joins a convolution: TensorRT fuses Conv + Add + Relu into one INT8 kernel if the skip is quantized."""
    for node in graph.nodes:
        if node.op_type != "Add" or graph.key(node) in floats or any(graph.constant(tensor) is not None for tensor in node.input):
            continue
        convolutions = [index for index, tensor in enumerate(node.input) if graph.is_conv_output(tensor) and len(graph.consumers(tensor)) == 1]
        if convolutions:
            main = max(convolutions, key=lambda index: graph.position(node.input[index]))  # the later one ends the residual branch
            yield node, 1 - main


def _depthwise_outputs(graph: Graph, layers: Iterable[NodeProto]) -> Iterator[tuple[NodeProto, int]]:
    """What reads a grouped convolution, above all a depthwise one: TensorRT 8.6.0 has no INT8 kernel that writes floating point and took FP16."""
    for layer in layers:
        if any(attribute.name == "group" and attribute.i > 1 for attribute in layer.attribute):
            output = graph.behind_relu(layer.output[0])
            readers = {graph.key(reader): reader for reader in graph.consumers(output)}.values()  # each once, also one that reads it twice
            yield from ((reader, index) for reader in readers for index, tensor in enumerate(reader.input) if tensor == output)


def _leave_clipping_to_saturation(graph: Graph, uses: Iterable[tuple[NodeProto, int]], cache: CalibrationCache, floats: Collection[str]) -> None:
    """Make a Clip from 0 behind a float layer that INT8 alone reads a Relu, where the INT8 range ends no later: the same numbers.

    TensorRT 8.6.0 moves the Q in front of such a Clip and then clips integers: on an H200 the answers were noise (docs/h200.md).
    """
    quantized = [node.input[index] for node, index in uses]
    for tensor in dict.fromkeys(quantized):
        clip = graph.producer(tensor)
        if clip is None or clip.op_type != "Clip" or not graph.is_non_negative(tensor) or len(clip.input) < 3:
            continue
        layer = graph.producer(clip.input[0])
        if layer is None or graph.key(layer) not in floats:  # a quantized layer takes the Clip into its kernel
            continue
        limit = graph.constant(clip.input[2])
        read_otherwise = tensor in graph.outputs or len(graph.consumers(tensor)) > quantized.count(tensor)
        if limit is not None and not read_otherwise and 127 * cache.scales.get(tensor, math.inf) <= float(limit) * (1 + np.finfo(np.float32).eps * 4):
            clip.op_type = "Relu"
            del clip.input[1:]


def _chain(graph: Graph, layers: Iterable[NodeProto], floats: Collection[str]) -> dict[str, str]:
    """Tensors that ONNX Runtime must see quantized so that every layer runs as an integer kernel -> the tensor whose scale each takes.

    A layer's inputs and its output, the latter behind a fused Relu or Clip. Companions between quantized tensors join the chain.
    """
    chain: dict[str, str] = {}
    for node in layers:
        for tensor in node.input[:2]:
            if graph.constant(tensor) is None:
                chain.setdefault(tensor, tensor)
        output = graph.behind_relu(node.output[0])
        # QGemm and MatMulIntegerToFloat give float32: logits need no rounding. QLinearConv gives 8 bits only.
        if node.op_type == "Conv" or output not in graph.outputs:
            chain.setdefault(output, output)
    for node in graph.nodes:
        tensors = [tensor for tensor in node.input if tensor and graph.constant(tensor) is None]
        if node.op_type not in COMPANIONS or graph.key(node) in floats or not tensors or any(tensor not in chain for tensor in tensors):
            continue
        if node.op_type in ("Add", "Mul") and len(tensors) < 2:
            continue
        if node.op_type in SAME_SCALE:
            chain[node.output[0]] = chain[tensors[0]]
        elif (output := graph.behind_relu(node.output[0])) not in graph.outputs:
            chain.setdefault(output, output)
    return chain


def _kept_apart(graph: Graph, floats: Collection[str], pairs: Mapping[str, Sequence[NodeProto]]) -> dict[str, list[NodeProto]]:
    """What stands behind each float node that ONNX Runtime would take into an integer kernel, as it does between a DQ and a Q: a Max of one input.

    It is the function x -> x that no optimization removes. An Identity, or a Clip without limits, is gone before anything is fused.
    """
    dequantized = {pair[-1].output[0] for pair in pairs.values()}
    made: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        reads = [tensor for tensor in node.input if tensor and graph.constant(tensor) is None]
        if node.op_type in FUSED and graph.key(node) in floats and reads and dequantized.issuperset(reads):
            result = node.output[0]
            source = graph.unique(f"{result}_in_float")
            graph.rename_output(result, source)
            made[source] = [helper.make_node("Max", [source], [result], name=graph.unique(f"{result}_Max"))]
    return made


def _format(graph: Graph, tensor: str, scale: float, placement: Placement) -> Quantization:
    """The integer type of an activation; `scale` is amax / 127 as in the cache."""
    if not math.isfinite(scale) or scale < 0:
        raise CalibrationMismatch(f"the calibration cache has the scale {scale} for {tensor}; run `dvc repro calibrate`")
    # TensorRT's calibrators write 0 for a tensor that was always zero; any positive scale keeps zeros exact.
    amax = 127 * scale if scale >= np.finfo(np.float32).tiny else 1.0
    if placement is Placement.tensorrt:
        return Quantization(amax / 127, 0, np.int8)
    if graph.is_non_negative(tensor):
        return Quantization(amax / 255, 0, np.uint8)
    return Quantization(amax / 127, 128, np.uint8)


def _pair(graph: Graph, tensor: str, form: Quantization, keeps_name: bool) -> list[NodeProto]:
    """Q and DQ for an activation. If `keeps_name`, a graph output stays the name of the dequantized tensor: its producer must feed Q alone."""
    source, result = tensor, tensor
    if keeps_name and tensor in graph.outputs:
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


def _quantize_weight(graph: Graph, node: NodeProto, activation: Quantization, placement: Placement) -> None:
    """Put the weight (and for ONNX Runtime the bias, int32 at scale activation * weight) of a layer behind Q/DQ."""
    weight = graph.constant(node.input[1])
    assert weight is not None  # chosen by the caller
    axis = _channel_axis(node, weight.ndim)
    exact = _weight_scale(weight, axis)
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    integer_bias = placement is Placement.onnxruntime and bias is not None and bias.shape == exact.shape
    if integer_bias and bias is not None:
        exact = np.maximum(exact, np.abs(bias.astype(np.float64)) / activation.scale / INT32_MAX * 2)  # else the bias overflows
    scale = _not_zero(exact)
    prefix = graph.unique(f"{node.input[1]}_int8")
    zeros = np.zeros(scale.shape, np.int8)
    parameters = [graph.add_constant(graph.unique(f"{prefix}_{what}"), value) for what, value in (("scale", scale), ("zero_point", zeros))]
    quantized, result = (graph.unique(f"{prefix}_{what}") for what in ("quantized", "dequantized"))
    nodes = _qdq(graph, (node.input[1], quantized, result), parameters, axis)
    if placement is Placement.onnxruntime:  # stored as int8: a quarter of the file; TensorRT wants FP32 -> Q
        graph.add_constant(quantized, _integers(weight, scale, axis).astype(np.int8))
        nodes = nodes[1:]
    node.input[1] = nodes[-1].output[0]
    if node.op_type in ("Conv", "ConvTranspose") and not any(attribute.name == "kernel_shape" for attribute in node.attribute):
        node.attribute.append(helper.make_attribute("kernel_shape", weight.shape[2:]))  # TensorRT 8.6 cannot infer it behind a DequantizeLinear
    if integer_bias and bias is not None:
        nodes.append(_integer_bias(graph, node, bias, activation.scale * scale.astype(np.float64)))
    graph.insert_first(nodes)


def rounding_error(node: NodeProto, weight: Floats) -> Floats:
    """What INT8 adds to the weight of a layer, in the weight's shape: dequantized less exact."""
    axis = _channel_axis(node, weight.ndim)
    scale = _not_zero(_weight_scale(weight, axis))
    error: Floats = (_integers(weight, scale, axis) * _along(scale, weight.ndim, axis) - weight).astype(np.float32)
    return error


def _weight_scale(weight: Floats, axis: Optional[int]) -> npt.NDArray[np.float64]:
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale: npt.NDArray[np.float64] = np.abs(weight).max(axis=others).astype(np.float64) / 127
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
    inputs = [graph.add_constant(prefix, integers), graph.add_constant(graph.unique(f"{prefix}_scale"), scale.astype(np.float32))]
    node.input[2] = graph.unique(f"{prefix}_dequantized")
    return helper.make_node("DequantizeLinear", inputs, [node.input[2]], name=graph.unique(f"{prefix}_DequantizeLinear"), axis=0)


def _channel_axis(node: NodeProto, rank: int) -> Optional[int]:
    """The axis of a weight that runs over output channels; None where there is none: each group of a ConvTranspose makes channels of its own."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return None if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute) else 1
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return rank - 1
