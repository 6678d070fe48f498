from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.config import Placement
from enginewright.errors import CalibrationMismatch, ModelError
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.qdq import insert_qdq, quantizable, require_scales
from support.networks import PLACEMENTS, residual_network, run, sqnr


def zero_points(model: ModelProto) -> dict[str, tuple[str, int]]:
    """Quantized activation -> dtype and zero point."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {
        node.input[0]: constants[node.input[2]]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and constants[node.input[2]].ndim == 0
    }
    return {tensor: (str(value.dtype), int(value)) for tensor, value in found.items()}


@PLACEMENTS
def test_a_quantized_model_is_valid_onnx_and_answers_nearly_the_same(
    network: ModelProto, cache: CalibrationCache, placement: Placement
) -> None:
    quantized = insert_qdq(network, cache.scales, placement)
    onnx.checker.check_model(quantized, full_check=True)
    assert [entry.version for entry in quantized.opset_import] == [17]
    assert sqnr(run(network), run(quantized)) > 25


@PLACEMENTS
def test_the_given_model_is_not_touched_and_the_result_is_deterministic(
    network: ModelProto, cache: CalibrationCache, placement: Placement
) -> None:
    before = network.SerializeToString(deterministic=True)
    twice = [insert_qdq(network, cache.scales, placement).SerializeToString(deterministic=True) for _ in range(2)]
    assert twice[0] == twice[1]
    assert network.SerializeToString(deterministic=True) == before


def test_tensorrt_gets_symmetric_int8_on_layer_inputs_and_the_skip_alone(
    network: ModelProto, cache: CalibrationCache
) -> None:
    found = zero_points(insert_qdq(network, cache.scales, Placement.tensorrt))
    assert found == dict.fromkeys(["input", "relu0", "relu1", "pool", "flat"], ("int8", 0))


def test_tensorrt_sees_nothing_between_conv_and_relu_and_the_skip_of_the_add_quantized(
    network: ModelProto, cache: CalibrationCache
) -> None:
    inputs = {node.name: list(node.input) for node in insert_qdq(network, cache.scales, Placement.tensorrt).graph.node}
    assert inputs["Relu_0"] == ["conv0"]
    assert inputs["Add_0"] == ["conv2", "relu0_dequantized"]


def test_tensorrt_weights_are_float_behind_per_channel_pairs_and_biases_float(
    network: ModelProto, cache: CalibrationCache
) -> None:
    model = insert_qdq(network, cache.scales, Placement.tensorrt)
    nodes = {node.output[0]: node for node in model.graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, channels in {"Conv_0": 8, "Gemm_0": 5}.items():
        layer = next(node for node in model.graph.node if node.name == name)
        dequantize = nodes[layer.input[1]]
        quantize = nodes[dequantize.input[0]]
        assert constants[quantize.input[0]].dtype == np.float32
        assert constants[quantize.input[1]].shape == (channels,)
        assert [attribute.i for attribute in quantize.attribute] == [0]
        assert constants[layer.input[2]].dtype == np.float32


def test_onnx_runtime_gets_uint8_with_the_whole_range_after_relu(network: ModelProto, cache: CalibrationCache) -> None:
    model = insert_qdq(network, cache.scales, Placement.onnxruntime)
    found = zero_points(model)
    assert {found[tensor] for tensor in ("relu0", "relu1", "relu2", "pool")} == {("uint8", 0)}
    assert {found[tensor] for tensor in ("input", "conv2", "conv3", "mean", "flat")} == {("uint8", 128)}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert constants["relu0_scale"] == pytest.approx(cache.scales["relu0"] * 127 / 255)
    assert constants["pool_scale"] == constants["relu2_scale"], (
        "ONNX Runtime pools integers only if both sides have one scale"
    )
    assert "conv0" not in found, "nothing between Conv and Relu"


@PLACEMENTS
def test_an_excluded_layer_keeps_its_float_weight(
    network: ModelProto, cache: CalibrationCache, placement: Placement
) -> None:
    quantized = insert_qdq(network, cache.scales, placement, exclude=["Conv_1"])
    layer = next(node for node in quantized.graph.node if node.name == "Conv_1")
    assert layer.input[1:] == ["w1", "b1"]
    onnx.checker.check_model(quantized, full_check=True)
    assert sqnr(run(network), run(quantized)) > 25


def test_excluding_an_unknown_node_names_the_nearest(network: ModelProto, cache: CalibrationCache) -> None:
    with pytest.raises(ModelError, match="has no node 'Conv_l' to leave in float; did you mean 'Conv_"):
        insert_qdq(network, cache.scales, Placement.tensorrt, exclude=["Conv_l"])


@PLACEMENTS
def test_a_cache_of_another_model_is_refused(cache: CalibrationCache, placement: Placement) -> None:
    with pytest.raises(CalibrationMismatch, match=r"no scale for .*other_.* of residual: it belongs to another model"):
        insert_qdq(residual_network(prefix="other_"), cache.scales, placement)


def test_missing_scales_name_the_tensors() -> None:
    require_scales({"input": 0.1, "logits": 1.0}, ["input", "logits"], "resnet")
    with pytest.raises(CalibrationMismatch, match="no scale for relu_1, relu_2 of resnet: it belongs to another model"):
        require_scales({"input": 0.1}, ["input", "relu_1", "relu_2"], "resnet")


def test_names_that_only_tensorrt_knows_are_left_alone(network: ModelProto, cache: CalibrationCache) -> None:
    more = CalibrationCache(cache.header, {**cache.scales, "(Unnamed Layer* 48) [Constant]_output": 0.5})
    assert insert_qdq(network, more.scales, Placement.tensorrt) == insert_qdq(network, cache.scales, Placement.tensorrt)


def test_a_quantized_model_is_not_quantized_again(network: ModelProto, cache: CalibrationCache) -> None:
    with pytest.raises(ModelError, match="carries Q/DQ nodes already"):
        insert_qdq(insert_qdq(network, cache.scales, Placement.tensorrt), cache.scales, Placement.tensorrt)


def test_an_opset_without_per_channel_pairs_is_refused(network: ModelProto, cache: CalibrationCache) -> None:
    network.opset_import[0].version = 12
    with pytest.raises(ModelError, match="opset 12, and per-channel Q/DQ needs 13"):
        insert_qdq(network, cache.scales, Placement.tensorrt)


@PLACEMENTS
def test_dead_channels_and_dead_tensors_work(
    network: ModelProto, cache: CalibrationCache, placement: Placement
) -> None:
    weights = next(tensor for tensor in network.graph.initializer if tensor.name == "w2")
    values = numpy_helper.to_array(weights).copy()
    values[3] = 0
    weights.CopyFrom(numpy_helper.from_array(values, "w2"))
    dead = CalibrationCache(Header.minmax, {**cache.scales, "input": 0.0})
    assert np.isfinite(run(insert_qdq(network, dead.scales, placement))).all()


@PLACEMENTS
def test_a_bias_beyond_int32_steps_is_kept(network: ModelProto, cache: CalibrationCache, placement: Placement) -> None:
    weights = next(tensor for tensor in network.graph.initializer if tensor.name == "w0")
    values = numpy_helper.to_array(weights).copy()
    values[0] = 1e-12
    weights.CopyFrom(numpy_helper.from_array(values, "w0"))
    assert sqnr(run(network), run(insert_qdq(network, cache.scales, placement))) > 20


def test_a_shared_weight_is_quantized_for_each_layer(network: ModelProto, cache: CalibrationCache) -> None:
    next(node for node in network.graph.node if node.name == "Conv_2").input[1] = "w1"
    for placement in Placement:
        quantized = insert_qdq(network, cache.scales, placement)
        onnx.checker.check_model(quantized, full_check=True)
        names = [output for node in quantized.graph.node for output in node.output]
        assert [name for name, count in collections.Counter(names).items() if count > 1] == []


def test_what_can_be_quantized(network: ModelProto) -> None:
    assert [node.name for node in quantizable(network)] == ["Conv_0", "Conv_1", "Conv_2", "Conv_3", "Gemm_0"]


def test_fp16_of_a_plain_model(network: ModelProto) -> None:
    half = to_fp16(network)
    onnx.checker.check_model(half, full_check=True)
    assert {tensor.data_type for tensor in half.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert len(half.SerializeToString()) < 0.75 * len(network.SerializeToString())
    assert sqnr(run(network), run(half)) > 50


def test_fp16_of_a_quantized_model_keeps_float32_scales(network: ModelProto, cache: CalibrationCache) -> None:
    quantized = insert_qdq(network, cache.scales, Placement.tensorrt)
    half = to_fp16(quantized)
    onnx.checker.check_model(half, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert {
        types[node.input[1]] for node in half.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    } == {onnx.TensorProto.FLOAT}
    assert types["b0"] == onnx.TensorProto.FLOAT16
    assert sqnr(run(quantized), run(half)) > 40


def _depthwise(group: int) -> ModelProto:
    """A 1x1, a 3x3 of `group` groups with Relu behind it, and a 1x1 convolution."""
    random = np.random.default_rng(0)
    shapes = {"w_expand": (4, 1, 1, 1), "w_depthwise": (4, 4 // group, 3, 3), "w_project": (2, 4, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["input", "w_expand"], ["expanded"], name="expand"),
        helper.make_node(
            "Conv", ["expanded", "w_depthwise"], ["deep"], name="depthwise", group=group, pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["deep"], ["relu"], name="relu"),
        helper.make_node("Conv", ["relu", "w_project"], ["output"], name="project"),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, 8, 8])
        for name, channels in (("input", 1), ("output", 2))
    ]
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    return helper.make_model(
        helper.make_graph(nodes, "depthwise", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


@pytest.mark.parametrize(("group", "quantized"), [(4, {"input", "expanded", "relu"}), (1, {"input", "expanded"})])
def test_a_depthwise_convolution_in_front_of_a_float_layer_writes_int8(group: int, quantized: set[str]) -> None:
    """TensorRT 8.6.0 has no INT8 kernel for it that writes floating point."""
    cache = CalibrationCache(Header.entropy, dict.fromkeys(["input", "expanded", "deep", "relu", "output"], 0.02))
    model = insert_qdq(_depthwise(group), cache.scales, Placement.tensorrt, exclude=["project"])
    onnx.checker.check_model(model, full_check=True)
    assert set(zero_points(model)) == quantized
    assert zero_points(insert_qdq(_depthwise(group), cache.scales, Placement.tensorrt)).keys() == {
        "input",
        "expanded",
        "relu",
    }


def _clip(model: ModelProto) -> onnx.NodeProto:
    (node,) = (node for node in model.graph.node if node.name == "Clip_1")
    assert isinstance(node, onnx.NodeProto)
    return node


def _kept_in_float(network: ModelProto, cache: CalibrationCache) -> ModelProto:
    return insert_qdq(network, cache.scales, Placement.tensorrt, ["Conv_1"])


def test_tensorrt_gets_no_clip_between_a_float_layer_and_a_quantizer(
    network: ModelProto, cache: CalibrationCache
) -> None:
    quantized = _kept_in_float(network, cache)
    onnx.checker.check_model(quantized, full_check=True)
    node = _clip(quantized)
    assert (node.op_type, len(node.input)) == ("Relu", 1)
    before = run(quantized)
    node.op_type = "Clip"
    node.input.extend(["zero", "six"])
    quantized.graph.initializer.extend(tensor for tensor in network.graph.initializer if tensor.name in ("zero", "six"))
    assert np.array_equal(run(quantized), before)


def test_a_clip_behind_a_quantized_layer_stays(network: ModelProto, cache: CalibrationCache) -> None:
    assert _clip(insert_qdq(network, cache.scales, Placement.tensorrt)).op_type == "Clip"


def test_a_clip_below_the_int8_range_stays(network: ModelProto, cache: CalibrationCache) -> None:
    wider = CalibrationCache(cache.header, {**cache.scales, "relu1": 6.1 / 127})
    assert _clip(_kept_in_float(network, wider)).op_type == "Clip"
    exact = CalibrationCache(cache.header, {**cache.scales, "relu1": float(np.float32(6 / 127))})
    assert _clip(_kept_in_float(network, exact)).op_type == "Relu"


def test_a_clip_that_a_float_layer_reads_too_stays(network: ModelProto, cache: CalibrationCache) -> None:
    network.graph.node.append(helper.make_node("Relu", ["relu1"], ["again"], name="reader"))
    network.graph.output.append(helper.make_empty_tensor_value_info("again"))
    assert _clip(_kept_in_float(network, cache)).op_type == "Clip"
