"""ONNX Runtime's own profile of a tiny model: every node once, mean times, integer kernels told from float ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from enginewright.runtimes.onnxruntime_profile import layer_times


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
    options = onnxruntime.SessionOptions()
    layers = layer_times(tiny(tmp_path / "tiny.onnx"), options, {"x": np.ones((3, 8), np.float32)}, runs=5)
    by_name = {layer.name: layer for layer in layers}
    assert len(by_name) == len(layers)
    assert by_name["product"].precision == "FP32"
    assert by_name["integers"].precision == "INT8"
    assert all(0 <= layer.milliseconds < 1000 for layer in layers)
    assert not options.enable_profiling  # the engine's own session goes on unprofiled
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tiny.onnx"]
