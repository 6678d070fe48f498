"""FP16 is right wherever FP32 is: attention, anchors, masks, norms by hand, graphs inside graphs.

And it is FP16 where time is spent: convolutions and matrix products.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright.config import Build, Placement, Precision
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.qdq import insert_qdq
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime.session import open_session
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX
from support.calibrated import plain_recipe
from support.fuzz import sample
from support.half_graphs import HALF_GRAPHS, feeds, half_graph
from support.half_judge import faults, products, run, scales, sqnr

Array = npt.NDArray[Any]

QDQ = ("QuantizeLinear", "DequantizeLinear")
SMALL = ("vit", "swin", "multihead_attention", "detr_queries", "squeeze_excite", "unet", "grn", "mixer", "yolo_head")
# Only in these may a product not be FP16: its weights lie beyond the range, or the model has it in float64.
OUTSIDE = {"weight_beyond_the_range", "double_parts"}
ABSENT = RTX.why_not(Capability.build)
needs_rtx = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))


def small(name: str) -> tuple[ModelProto, dict[str, Array]]:
    pytest.importorskip("torch")
    from support.small_models import SMALL_MODELS, batches, exported

    assert set(SMALL) == set(SMALL_MODELS)
    return exported(name), dict(batches(name, count=1, size=8)[0])


def float32_nodes(model: ModelProto) -> list[str]:
    """Operators that make float32 numbers, in the model's own graph; Casts and Q/DQ apart."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes = [node for node in model.graph.node if node.op_type not in ("Cast", *QDQ)]
    return [node.op_type for node in nodes if floats & set(node.output)]


@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_is_right_and_computes_its_products_in_fp16(name: str) -> None:
    model, images = small(name)
    half = to_fp16(model)
    assert faults(model, half, images, least_db=50) == []
    computed, total = products(half)
    assert computed == total > 0
    assert len(half.SerializeToString()) < 0.85 * len(model.SerializeToString())


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        pytest.param("vit", ["Expand"], id="the class token for each image"),
        pytest.param("swin", [], id="nothing"),
        pytest.param("unet", [], id="no layer of a U-Net"),
        pytest.param("squeeze_excite", [], id="no gate"),
        pytest.param("grn", ["Mul", "ReduceL2", "ReduceMean", "Add", "Div", "Mul"], id="the norm of a GRN"),
    ],
)
def test_few_nodes_stay_in_fp32(name: str, kept: list[str]) -> None:
    model, _ = small(name)
    assert float32_nodes(to_fp16(model)) == kept


@pytest.mark.parametrize("name", HALF_GRAPHS)
def test_a_graph_that_converters_get_wrong_is_right(name: str) -> None:
    model = half_graph(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        half = to_fp16(model)
    assert faults(model, half, feeds(model)) == []
    computed, total = products(half)
    assert computed == total or name in OUTSIDE
    assert [str(warning.message) for warning in caught] == [] or name in OUTSIDE


@pytest.mark.parametrize("opset", [13, 15, 18, 19, 21])
def test_other_opsets_are_right(opset: int) -> None:
    tried = 0
    for name in HALF_GRAPHS[::3]:
        try:
            model = onnx.version_converter.convert_version(half_graph(name), opset)
            onnx.checker.check_model(model, full_check=True)
        except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            continue  # ONNX's own converter does not know every operator
        tried += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            half = to_fp16(model)
        assert faults(model, half, feeds(model)) == [], name
    assert tried > 5


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_random_graphs_are_right(first: int) -> None:
    for seed in range(first, first + 25):
        drawn = sample(seed)
        assert faults(drawn.model, to_fp16(drawn.model), drawn.feeds) == [], seed


@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_with_q_and_dq_keeps_float32_scales_and_the_rest_in_fp16(name: str) -> None:
    model, images = small(name)
    quantized = insert_qdq(model, scales(model, images).scales, Placement.tensorrt)
    half = to_fp16(quantized)
    assert faults(quantized, half, images, least_db=25) == []  # a value at the edge of a step goes to the next one
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert {types[node.input[1]] for node in half.graph.node if node.op_type in QDQ} == {TensorProto.FLOAT}
    computed, total = products(half)
    assert computed == total > 0


@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize("precision", [Precision.fp16, Precision.int8_mixed])
@pytest.mark.parametrize("name", SMALL)
def test_tensorrt_rtx_builds_every_small_model(name: str, precision: Precision, tmp_path: Path) -> None:
    model, images = small(name)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    cache = scales(model, images) if precision is Precision.int8_mixed else None
    built = RTX.build(
        path, BuildJob(precision, Build(compute_capabilities=["8.6"]), plain_recipe(cache), axes=batches(1, 4, 8))
    )
    if precision is Precision.fp16:
        assert built.layers["FP16"] > built.layers.get("FP32", 0)
    else:
        assert built.quantized > built.quantizable / 2


def test_a_weight_beyond_the_range_stays_in_fp32_and_is_named() -> None:
    says = r"Conv_2 \(Conv\) stays in FP32: FP16 does not hold its constant big"
    with pytest.warns(UserWarning, match=says) as caught:
        to_fp16(half_graph("weight_beyond_the_range"))
    assert len(caught) == 1


def test_an_initializer_that_is_an_input_too_becomes_a_weight() -> None:
    model = half_graph("standard_deviation")
    model.graph.input.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, [8, 3, 3, 3]))
    model.ir_version = 3
    half = to_fp16(model)
    assert [value.name for value in half.graph.input] == ["x"]
    onnx.checker.check_model(half, full_check=True)
    expected = run(half_graph("standard_deviation"), feeds(half))
    assert sqnr(expected["y"], run(half, feeds(half))["y"]) > 50


def test_the_model_itself_is_not_edited() -> None:
    for name in ("if_with_captured_tensors", "a_function_body", "resize_by_scales"):
        model = half_graph(name)
        before = model.SerializeToString(deterministic=True)
        to_fp16(model)
        assert model.SerializeToString(deterministic=True) == before


def test_it_converts_to_equal_bytes_every_time() -> None:
    model, _ = small("vit")
    assert to_fp16(model).SerializeToString(deterministic=True) == to_fp16(model).SerializeToString(deterministic=True)


def test_what_is_fp16_already_stays_as_it_is() -> None:
    half = to_fp16(half_graph("outputs_read_inside"))
    assert to_fp16(half).graph == half.graph


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param([1e6, -1e6], [65504, -65504], id="beyond the range"),
        pytest.param([np.inf, -np.inf], [np.inf, -np.inf], id="infinite"),
        pytest.param([65521, -65519], [65504, -65504], id="at the edge"),
    ],
)
def test_a_limit_is_clipped_and_infinity_stays(stored: list[float], expected: list[float]) -> None:
    high, low = np.array(max(stored), np.float32), np.array(min(stored), np.float32)
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Clip", ["r", "low", "high"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    limits = [numpy_helper.from_array(low, "low"), numpy_helper.from_array(high, "high")]
    graph = helper.make_graph(nodes, "limits", values[:1], values[1:], limits)
    half = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    found = {tensor.name: float(numpy_helper.to_array(tensor)) for tensor in half.graph.initializer}
    assert sorted([found["high"], found["low"]]) == sorted(expected)


@pytest.mark.parametrize("length", [3000])
def test_long_graphs_need_neither_deep_calls_nor_quadratic_time(length: int) -> None:
    nodes, last = [], "x"
    for index in range(length):  # diamonds: a tensor and its own mean, again and again
        nodes.append(helper.make_node("ReduceMean", [last], [f"m{index}"]))
        nodes.append(helper.make_node("Add", [last, f"m{index}"], [f"s{index}"]))
        nodes.append(helper.make_node("Sqrt", [f"s{index}"], [last := f"q{index}"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "long", values[:1], values[1:])
    half = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert len(half.graph.node) >= 3 * length


def test_a_sparse_constant_is_a_weight_like_others() -> None:
    few = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1, 2, -0.5], np.float32)),
        numpy_helper.from_array(np.array([3, 8, 30])),
        [6, 6],
    )
    nodes = [helper.make_node("Constant", [], ["w"], sparse_value=few), helper.make_node("MatMul", ["x", "w"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "sparse", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    half = to_fp16(model)
    assert products(half) == (1, 1)
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    exact, found = (open_session(each.SerializeToString()).run(None, {"x": x})[0] for each in (model, half))
    np.testing.assert_allclose(found, exact, atol=1e-2)
    assert np.abs(exact).max() > 0.5
