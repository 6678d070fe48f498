"""Bias correction of a graph: what rounding its weights to INT8 adds to a layer's output on average is taken off its
bias.

Rounding errors of weights do not cancel out behind a Relu: E[(W_int8 - W) x] = (W_int8 - W) E[x] moves every value of a
channel the same way, most so in a depthwise convolution, which sums nine products. Source: M. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, with E[x] measured on the
calibration images instead of the paper's estimate from BatchNormalization. Here x are the values of the float model,
so that the correction of a layer depends neither on scales nor on which other layers run in INT8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper

from enginewright.errors import CalibrationMismatch, nearest
from enginewright.graph.constants import operator
from enginewright.graph.fold import bias_of, fold_batch_normalization, output_channels, set_bias
from enginewright.graph.index import Graph
from enginewright.graph.qdq import rounding_error

CORRECTED = ("Conv", "ConvTranspose", "Gemm")  # a MatMul has no bias
REMEDY = "run `dvc repro calibrate`"
AXES_ARE_AN_INPUT = 18  # the opset from which ReduceMean takes them so


def correct_biases(
    model: ModelProto, bias_correction: Mapping[str, npt.NDArray[np.float32]], exclude: Collection[str] = ()
) -> ModelProto:
    """Return a copy of a float model, BatchNormalization folded where it can be, with lower biases.

    Args:
        model: FP32.
        bias_correction: name of a layer -> what its INT8 weights add to each output channel on average, [channels].
        exclude: names of nodes that do not run in INT8, whose biases stay.

    Raises:
        CalibrationMismatch: the correction is of a layer that the model does not have, or has with another number of
            channels.
    """
    result = fold_batch_normalization(model)
    graph = Graph(result)
    layers = {node.name: node for node in graph.nodes if _has_stored_parameters(graph, node)}
    for name, error in bias_correction.items():
        if name not in layers:
            raise CalibrationMismatch(
                f"the bias correction is of a layer '{name}' that the model does not have{nearest(name, layers)};"
                f" {REMEDY}"
            )
        weight, bias = graph.constant(layers[name].input[1]), bias_of(graph, layers[name])
        assert weight is not None  # stored, as all of these
        if (channels := output_channels(layers[name], weight.shape)) != error.size:
            raise CalibrationMismatch(
                f"the bias correction has {error.size} channels for '{name}', which has {channels}; {REMEDY}"
            )
        if name not in exclude:
            set_bias(graph, layers[name], ((0.0 if bias is None else bias) - error).astype(weight.dtype))
    graph.drop_unused_initializers()
    return result


def watch_rounding(model: ModelProto) -> tuple[ModelProto, dict[str, tuple[str, str]]]:
    """Return a copy of a float model that computes, beside each layer, what its INT8 weights would add.

    Beside each layer a second one runs that has the rounding errors for weights and no bias: its mean is the
    correction, borders and strides included.

    Args:
        model: FP32; layers without a name of their own, and those whose weights are computed in the graph, are left
            out.

    Returns:
        The copy, BatchNormalization folded; and for each layer two of its tensors: the mean of what the rounding
        errors give, [rows or 1, channels, ...], and the shape of what they give.
    """
    result = fold_batch_normalization(model)
    graph = Graph(result)
    names = Counter(node.name for node in graph.nodes)
    watched = {
        node.name: _watch_errors(result, graph, node)
        for node in graph.nodes
        if _has_stored_parameters(graph, node) and node.name and names[node.name] == 1
    }
    return result, watched


def _has_stored_parameters(graph: Graph, node: NodeProto) -> bool:
    return operator(node) in CORRECTED and all(graph.constant(name) is not None for name in node.input[1:] if name)


def _watch_errors(model: ModelProto, graph: Graph, layer: NodeProto) -> tuple[str, str]:
    """Add what computes a layer's output with the rounding errors for weights: the names of its mean and its shape."""
    weight = graph.constant(layer.input[1])
    assert weight is not None  # chosen by the caller
    error = graph.add_constant(
        graph.unique(f"{layer.input[1]}_error"), rounding_error(layer, weight).astype(weight.dtype)
    )
    beside, mean, shape = (graph.unique(f"{layer.output[0]}_{what}") for what in ("error", "error_mean", "error_shape"))
    attributes = {each.name: helper.get_attribute_value(each) for each in layer.attribute if each.name != "beta"}
    model.graph.node.append(helper.make_node(layer.op_type, [layer.input[0], error], [beside], **attributes))
    model.graph.node.append(helper.make_node("Shape", [beside], [shape]))
    if layer.op_type != "Gemm":
        average = helper.make_node("GlobalAveragePool", [beside], [mean])
    elif next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) < AXES_ARE_AN_INPUT:
        average = helper.make_node("ReduceMean", [beside], [mean], axes=[0])
    else:
        axes = graph.add_constant(graph.unique(f"{mean}_axes"), np.array([0], np.int64))
        average = helper.make_node("ReduceMean", [beside, axes], [mean])
    model.graph.node.append(average)
    return mean, shape
