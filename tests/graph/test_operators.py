"""Operators whose integer kernel is missing or wrong stay in float, and what stays in float is not taken into a kernel
all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.graph.qdq import insert_qdq, quantizable
from enginewright.graph.reasons import left_in_float
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.session import open_session
from support.operator_net import RELU, SIGNED, Net
from support.operator_truth import truth
from support.reference import simulated, sqnr_db

WRONG = "ONNX Runtime's integer AveragePool is wrong with ceil_mode and count_include_pad"
NO_DILATIONS = "ONNX Runtime's integer AveragePool has no dilations"


def between_convolutions(
    operator: str, source: str = SIGNED, opset: int = 17, then: Sequence[str] = (), **attributes: Any
) -> Net:
    """conv - operator - `then` - conv."""
    net = Net(seed=3, opset=opset)
    made = net.node(operator, [net.source(source, 4, 10, 10)], **attributes)
    for other in then:
        made = net.node(other, [made])
    net.read(made)
    return net


def measured(net: Net, folder: Path) -> tuple[Path, CalibrationCache]:
    path = folder / "model.onnx"
    onnx.save(net.model(), path)
    return path, calibrate(path, [net.feeds()], Calibration(algorithm=CalibrationAlgorithm.minmax))


def kernels(model: ModelProto, folder: Path) -> list[str]:
    """The operators of the graph that a session really executes."""
    open_session(model.SerializeToString(), optimized=folder / "optimized.onnx")
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


POOLS: dict[str, tuple[str, dict[str, Any], int, tuple[str, ...]]] = {
    "ceil_mode and count_include_pad": (WRONG, {"ceil_mode": 1, "count_include_pad": 1}, 17, ()),
    "with pads": (WRONG, {"ceil_mode": 1, "count_include_pad": 1, "pads": [1, 1, 1, 1]}, 17, ()),
    "with Relu behind": (WRONG, {"ceil_mode": 1, "count_include_pad": 1}, 17, ("Relu",)),
    "behind it what hands integers on": (WRONG, {"ceil_mode": 1, "count_include_pad": 1}, 17, ("Transpose", "Relu")),
    "dilations": (NO_DILATIONS, {"dilations": [2, 2]}, 19, ()),
    "both": (NO_DILATIONS, {"dilations": [2, 1], "ceil_mode": 1, "count_include_pad": 1}, 21, ()),
}


@pytest.mark.parametrize("source", [SIGNED, RELU])
@pytest.mark.parametrize("name", POOLS)
def test_an_average_that_integers_get_wrong_is_taken_in_float(name: str, source: str, tmp_path: Path) -> None:
    why, attributes, opset, then = POOLS[name]
    net = between_convolutions("AveragePool", source, opset, then, kernel_shape=[3, 3], strides=[2, 2], **attributes)
    path, cache = measured(net, tmp_path)
    (pool,) = (node.name for node in net.nodes if node.op_type == "AveragePool")
    assert left_in_float(net.model(), cache.scales, Placement.onnxruntime) == {pool: why}
    assert left_in_float(net.model(), cache.scales, Placement.tensorrt) == {}
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert dict(built.left_in_float) == {pool: why}
    assert built.quantized == built.quantizable == 2
    used = kernels(onnx.load_model_from_string(built.engine_bytes), tmp_path)
    assert "AveragePool" in used
    assert "QLinearAveragePool" not in used
    assert all(found.gap_db < 1 for found in truth(net).values())


def test_an_average_that_integers_get_right_stays_an_integer_kernel(tmp_path: Path) -> None:
    chosen: list[dict[str, Any]] = [{"ceil_mode": 1}, {"count_include_pad": 1, "pads": [1, 1, 1, 1]}]
    for attributes in chosen:
        net = between_convolutions("AveragePool", kernel_shape=[3, 3], strides=[2, 2], **attributes)
        path, cache = measured(net, tmp_path)
        built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
        assert not built.left_in_float
        assert "QLinearAveragePool" in kernels(onnx.load_model_from_string(built.engine_bytes), tmp_path)


@pytest.mark.parametrize("operator", ["Sigmoid", "LeakyRelu", "GlobalAveragePool", "Softmax"])
def test_an_operator_that_is_chosen_to_stay_in_float_does(operator: str, tmp_path: Path) -> None:
    net = between_convolutions(operator)
    _, cache = measured(net, tmp_path)
    (chosen,) = (node.name for node in net.nodes if node.op_type == operator)
    assert f"QLinear{operator}" in kernels(insert_qdq(net.model(), cache.scales, Placement.onnxruntime), tmp_path)
    kept = insert_qdq(net.model(), cache.scales, Placement.onnxruntime, [chosen])
    onnx.checker.check_model(kept, full_check=True)
    used = kernels(kept, tmp_path)
    assert f"QLinear{operator}" not in used
    assert used.count("QLinearConv") == 2
    expected, feeds = simulated(kept, net.feeds()), net.feeds()
    (name,) = (output.name for output in kept.graph.output)
    assert sqnr_db(expected[name], open_session(kept.SerializeToString()).run([name], feeds)[0]) > 40


def upsampled(group: int = 1) -> Net:
    """conv - relu - transposed convolution with a bias - conv."""
    net = Net(seed=5)
    source = net.source(RELU, 8, 6, 6)
    inputs = [source, net.constant(net.normal(8, 12 // group, 2, 2)), net.constant(net.normal(12))]
    net.read(net.node("ConvTranspose", inputs, group=group, strides=[2, 2]))
    return net


def transposed(model: ModelProto) -> NodeProto:
    (node,) = (node for node in model.graph.node if node.op_type == "ConvTranspose")
    assert isinstance(node, NodeProto)
    return node


@pytest.mark.parametrize(("group", "shape", "axis"), [(1, (12,), 1), (2, (), None), (4, (), None)])
def test_tensorrt_gets_a_transposed_convolution_quantized(
    group: int, shape: tuple[int, ...], axis: int | None, tmp_path: Path
) -> None:
    net = upsampled(group)
    _, cache = measured(net, tmp_path)
    assert len(quantizable(net.model())) == 3
    model = insert_qdq(net.model(), cache.scales, Placement.tensorrt)
    onnx.checker.check_model(model, full_check=True)
    made = {node.output[0]: node for node in model.graph.node}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layer = transposed(model)
    assert made[layer.input[0]].op_type == "DequantizeLinear"
    dequantize = made[layer.input[1]]
    scale = stored[dequantize.input[1]]
    assert scale.shape == shape
    assert [attribute.i for attribute in dequantize.attribute] == ([] if axis is None else [axis])
    weight = numpy_helper.to_array(net.weights[2])
    np.testing.assert_allclose(scale, np.abs(weight).max(axis=(0, 2, 3) if group == 1 else None) / 127, rtol=1e-6)
    assert {found.gap_db < 1 for found in truth(net).values()} == {True}


def test_onnx_runtime_leaves_a_transposed_convolution_in_float_and_says_so(tmp_path: Path) -> None:
    net = upsampled()
    path, cache = measured(net, tmp_path)
    layer = transposed(net.model())
    built = RUNTIME.build(
        path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache, measure_bias_correction(path, [net.feeds()])))
    )
    why = "ONNX Runtime has no integer kernel for ConvTranspose"
    assert (built.quantized, built.quantizable, dict(built.layers)) == (2, 3, {"INT8": 2, "FP32": 1})
    assert dict(built.left_in_float) == {layer.name: why}
    assert f"{layer.name} (ConvTranspose) runs in float: {why}" in built.warnings
    plan = onnx.load_model_from_string(built.engine_bytes)
    assert list(transposed(plan).input[1:]) == list(layer.input[1:]), (
        "its weights and its bias are as they were, the bias correction made on it not"
    )


def test_a_node_that_reads_a_tensor_twice_behind_a_grouped_layer_is_rewired_once(tmp_path: Path) -> None:
    net = Net(seed=7)
    source = net.source("groups", 4, 6, 6)
    net.read(net.node("Add", [source, source]))
    _, cache = measured(net, tmp_path)
    model = insert_qdq(net.model(), cache.scales, Placement.tensorrt)
    (add,) = (node for node in model.graph.node if node.op_type == "Add")
    assert add.input[0] == add.input[1] != source


@pytest.mark.parametrize("mode", ["cubic", "linear"])
def test_a_resize_between_int8_convolutions_runs(mode: str, tmp_path: Path) -> None:
    """ONNX Runtime puts channels last there, and then has no bicubic kernel."""
    net = Net(seed=2)
    source = net.source(SIGNED, 4, 6, 8)
    net.read(net.node("Resize", [source, "", net.constant(np.array([1, 1, 1.5, 2], np.float32))], mode=mode))
    path, cache = measured(net, tmp_path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert (built.quantized, built.quantizable) == (2, 2)
    assert all(found.gap_db < 1 for found in truth(net).values())


def product(bias: tuple[int, ...] | None, **attributes: Any) -> Net:
    """conv - flatten - Gemm of 8 rows and 8 channels, with large biases."""
    net = Net(seed=11)
    inputs = [net.node("Flatten", [net.source(SIGNED, 12, 1)]), net.constant(net.normal(12, 8))]
    net.node(
        "Gemm",
        inputs if bias is None else [*inputs, net.constant(4 * net.random.normal(size=bias).astype(np.float32))],
        **attributes,
    )
    return net


@pytest.mark.parametrize("bias", [(8, 1), (8, 8)], ids=["column", "matrix"])
def test_a_gemm_whose_rows_have_biases_of_their_own_stays_in_float_on_onnx_runtime(
    bias: tuple[int, ...], tmp_path: Path
) -> None:
    """A column as long as there are channels was taken for a bias of the channels."""
    net = product(bias, beta=0.5)
    path, cache = measured(net, tmp_path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    (gemm,) = (node.name for node in net.nodes if node.op_type == "Gemm")
    assert dict(built.left_in_float) == {gemm: "its bias is not one value a channel"}
    assert (built.quantized, built.quantizable) == (1, 2)
    for found in truth(net).values():
        assert found.simulated_db > 30
        assert found.gap_db < 1


@pytest.mark.parametrize(
    ("bias", "attributes"),
    [
        pytest.param((), {"beta": -3.0}, id="one for all"),
        pytest.param((1, 1), {}, id="one for all as a matrix"),
        pytest.param((1, 8), {"beta": 0.5, "alpha": -0.5}, id="a row of a matrix, alpha and beta"),
        pytest.param((8,), {"alpha": 3.0}, id="alpha"),
        pytest.param(None, {"alpha": 3.0, "beta": 2.0}, id="no bias"),
    ],
)
def test_a_gemm_with_any_other_bias_and_with_factors_is_an_integer_kernel(
    bias: tuple[int, ...] | None, attributes: dict[str, Any], tmp_path: Path
) -> None:
    net = product(bias, **attributes)
    path, cache = measured(net, tmp_path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert dict(built.left_in_float) == {}
    assert (built.quantized, built.quantizable) == (2, 2)
    assert "QGemm" in kernels(onnx.load_model_from_string(built.engine_bytes), tmp_path)
    for found in truth(net).values():
        assert found.simulated_db > 30
        assert found.gap_db < 1


def test_a_convolution_with_a_computed_bias_stays_in_float_on_onnx_runtime(tmp_path: Path) -> None:
    net = Net(seed=13)
    source = net.source(SIGNED, 4, 6, 6)
    mean = net.node("ReduceMean", [source], keepdims=0)
    bias = net.node("Mul", [net.constant(net.normal(6)), mean])
    net.node("Conv", [source, net.constant(net.normal(6, 4, 1, 1)), bias])
    path, cache = measured(net, tmp_path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert list(built.left_in_float.values()) == ["its bias is computed in the graph, not stored"]
    assert all(found.gap_db < 1 for found in truth(net).values())
    assert left_in_float(net.model(), cache.scales, Placement.tensorrt) == {}
