"""A tiny residual network as ONNX, and images for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright.config import Placement

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
PLACEMENTS = pytest.mark.parametrize("placement", list(Placement), ids=lambda placement: placement.name)


def residual_network(seed: int = 0, prefix: str = "", shape: Sequence[int] = (3, 12, 12)) -> ModelProto:
    """conv - relu - [conv - relu - conv, + skip] - relu - max pool - global average pool - flatten - gemm, as exported:
    opset 17.
    """
    random = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(
            (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name
        )

    def conv(number: int, source: str) -> onnx.NodeProto:
        return helper.make_node(
            "Conv",
            [source, f"w{number}", f"b{number}"],
            [f"{prefix}conv{number}"],
            name=f"Conv_{number}",
            pads=[1, 1, 1, 1],
        )

    nodes = [
        conv(0, "input"),
        helper.make_node("Relu", [f"{prefix}conv0"], [f"{prefix}relu0"], name="Relu_0"),
        conv(1, f"{prefix}relu0"),
        helper.make_node("Clip", [f"{prefix}conv1", "zero", "six"], [f"{prefix}relu1"], name="Clip_1"),
        conv(2, f"{prefix}relu1"),
        helper.make_node("Add", [f"{prefix}conv2", f"{prefix}relu0"], [f"{prefix}sum"], name="Add_0"),
        helper.make_node("Relu", [f"{prefix}sum"], [f"{prefix}relu2"], name="Relu_2"),
        helper.make_node(
            "MaxPool", [f"{prefix}relu2"], [f"{prefix}pool"], name="MaxPool_0", kernel_shape=[2, 2], strides=[2, 2]
        ),
        conv(3, f"{prefix}pool"),
        helper.make_node("GlobalAveragePool", [f"{prefix}conv3"], [f"{prefix}mean"], name="GlobalAveragePool_0"),
        helper.make_node("Flatten", [f"{prefix}mean"], [f"{prefix}flat"], name="Flatten_0"),
        helper.make_node("Gemm", [f"{prefix}flat", "w4", "b4"], ["logits"], name="Gemm_0", transB=1),
    ]
    initializers = [
        *(weight(f"w{number}", 8, shape[0] if number == 0 else 8, 3, 3) for number in range(4)),
        *(weight(f"b{number}", 8) for number in range(4)),
        weight("w4", 5, 8),
        weight("b4", 5),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(6, np.float32), "six"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def images(count: int = 8, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, 3, 12, 12)).astype(np.float32)


def run(model: ModelProto) -> Floats:
    """The first output of a model on `images()`."""
    import onnxruntime

    result: Floats = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"input": images()})[0]
    return result


def sqnr(reference: Floats, other: Floats) -> float:
    """Signal to quantization noise in dB."""
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))
