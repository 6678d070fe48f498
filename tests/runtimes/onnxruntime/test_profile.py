"""ONNX Runtime's own profile of a tiny model: every node once, mean times, integer kernels told from float ones,
kernels traced to nodes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright.benchmark.layers import side_by_side
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, Precision
from enginewright.runtimes.base import BuildJob, LayerTime
from enginewright.runtimes.onnxruntime import OnnxRuntime
from enginewright.runtimes.onnxruntime.profile import fused_nodes, layer_times, summed
from support.networks import images, residual_network


def tiny(path: Path) -> Path:
    """MatMul, Relu; then QuantizeLinear and MatMulInteger."""
    weights = [
        numpy_helper.from_array(np.ones((8, 8), np.float32), "w"),
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
        numpy_helper.from_array(np.ones((8, 4), np.int8), "wq"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Relu", ["m"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("MatMulInteger", ["q", "wq"], ["y"], name="integers"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, ["N", 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_every_node_is_timed_once_with_its_precision(tmp_path: Path) -> None:
    layers = layer_times(tiny(tmp_path / "tiny.onnx"), {"x": np.ones((3, 8), np.float32)}, runs=5)
    by_name = {layer.name: layer for layer in layers}
    assert len(by_name) == len(layers)
    assert by_name["product"].precision == "FP32"
    assert by_name["integers"].precision == "INT8"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tiny.onnx"]


def test_a_time_is_the_mean_of_the_middle_half_without_the_first_run() -> None:
    microseconds = [90_000, 100, 1000, 1000, 3000, 3000, 70_000, 200, 80_000]  # the first run allocates
    events = [{"cat": "Node", "name": "product_kernel_time", "dur": value, "args": {}} for value in microseconds]
    others = [
        {"cat": "Session", "name": "model_run", "dur": 5},
        {"cat": "Node", "name": "product_fence_before", "dur": 7},
    ]
    assert [(layer.name, layer.milliseconds) for layer in summed([*events, *others], runs=8)] == [("product", 2.0)]


def block(precision: str) -> onnx.GraphProto:
    """conv1 - relu - conv2, + 1x1 shortcut, - relu - gemm, named as PyTorch's exporter and the builder of `precision`
    name it.
    """
    nodes = [
        ("Conv", "/a/conv1/Conv", ["input"]),
        ("Relu", "/a/Relu", ["/a/conv1/Conv_output_0"]),
        ("Conv", "/a/conv2/Conv", ["/a/Relu_output_0"]),
        ("Conv", "/a/shortcut/Conv", ["input"]),
        ("Add", "/a/Add", ["/a/conv2/Conv_output_0", "/a/shortcut/Conv_output_0"]),
        ("Relu", "/a/Relu_1", ["/a/Add_output_0"]),
        ("Gemm", "/fc/Gemm", ["/a/Relu_1_output_0"]),
    ]
    made = []
    for operator, name, read in nodes:
        sources = read
        if precision == "int8":  # a pair of Q/DQ on every tensor that is read
            for tensor in read:
                made.append(
                    helper.make_node(
                        "QuantizeLinear", [tensor], [f"{tensor}_quantized"], name=f"{tensor}_quantized_QuantizeLinear"
                    )
                )
                made.append(
                    helper.make_node(
                        "DequantizeLinear",
                        [f"{tensor}_quantized"],
                        [f"{tensor}_dequantized"],
                        name=f"{tensor}_DequantizeLinear",
                    )
                )
            sources = [f"{tensor}_dequantized" for tensor in read]
        made.append(helper.make_node(operator, sources, [f"{name}_output_0"], name=name))
    if precision == "fp16":
        made.append(helper.make_node("Cast", ["/fc/Gemm_output_0"], ["logits"], name="/fc/Gemm_cast_to_logits"))
    return helper.make_graph(made, "block", [], [])


# As ONNX Runtime 1.32 named them with AVX-512.
RECORDED = {
    "fp32": {
        "/a/Relu_output_0_nchwc": ("/a/conv1/Conv", "/a/Relu"),
        "/a/shortcut/Conv_output_0_nchwc": ("/a/shortcut/Conv",),
        "/a/conv2/Conv_output_0_nchwc": ("/a/conv2/Conv", "/a/Add", "/a/Relu_1"),
        "ReorderOutput": (),
        "/fc/Gemm": ("/fc/Gemm",),
    },
    "fp16": {
        "InsertedPrecisionFreeCast_/a/Relu_output_0_nchwc": ("/a/conv1/Conv", "/a/Relu"),
        "InsertedPrecisionFreeCast_/a/shortcut/Conv_output_0_nchwc": ("/a/shortcut/Conv",),
        "InsertedPrecisionFreeCast_/a/conv2/Conv_output_0_nchwc": ("/a/conv2/Conv", "/a/Add", "/a/Relu_1"),
        "ReorderOutput": (),
        "/fc/Gemm": ("/fc/Gemm",),
        "/fc/Gemm_cast_to_logits": ("/fc/Gemm_cast_to_logits",),
    },
    "int8": {
        "input_quantized_QuantizeLinear": ("input_quantized_QuantizeLinear",),
        "Transpose": (),
        "/a/shortcut/Conv_token_17": ("/a/shortcut/Conv",),
        "/a/conv1/Conv_token_11": ("/a/conv1/Conv", "/a/Relu"),
        "/a/conv2/Conv_token_14": ("/a/conv2/Conv",),
        "/a/Add": ("/a/Add", "/a/Relu_1"),
        "Transpose_token_32": (),
        "/fc/Gemm": ("/fc/Gemm",),
    },
}


@pytest.mark.parametrize("precision", RECORDED)
def test_kernels_are_traced_to_the_nodes_fused_into_them(precision: str) -> None:
    assert fused_nodes(list(RECORDED[precision]), block(precision)) == RECORDED[precision]


def test_the_same_parts_of_the_model_stand_side_by_side() -> None:
    profiles = {
        precision: [LayerTime(kernel, 1.0, "INT8", nodes) for kernel, nodes in kernels.items()]
        for precision, kernels in RECORDED.items()
    }
    table = side_by_side(profiles)
    shared = table[table["verdict"].isin(["won", "even", "slower"])]
    assert set(shared["block"]) == {"/a/conv1/Conv", "/a/shortcut/Conv", "/a/conv2/Conv", "/fc/Gemm"}
    assert set(table["block"]) - set(shared["block"]) == {
        "ReorderOutput",
        "/fc/Gemm_cast_to_logits",
        "input_quantized_QuantizeLinear",
        "Transpose",
        "Transpose_token_32",
    }


@pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.name)
def test_no_node_of_a_real_engine_is_left_without_a_kernel(tmp_path: Path, precision: Precision) -> None:
    source, engine = tmp_path / "model.onnx", tmp_path / "engine.onnx"
    onnx.save(residual_network(), str(source))
    runtime = OnnxRuntime()
    cache = runtime.calibrate(source, [{"input": images()}], Calibration())
    engine.write_bytes(runtime.build(source, BuildJob(precision, Build(), QuantizationRecipe(cache))).engine_bytes)
    layers = layer_times(engine, {"input": images(4)}, runs=1)
    traced = [node for layer in layers for node in layer.operations]
    assert {node.name for node in residual_network().graph.node} <= set(traced)
    assert len(traced) == len(set(traced))
