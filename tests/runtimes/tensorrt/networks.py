"""Small and large residual networks as ONNX, with random weights of realistic scale (He et al., 2015), for builds
without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class _Net:
    """Collects nodes and weights; BatchNorm counts as folded, as the export stage leaves it."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def weight(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = self.random.standard_normal(shape) * (2 / fan_in) ** 0.5 if len(shape) > 1 else np.zeros(shape)
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, source: str, channels: tuple[int, int], kernel: int, stride: int = 1, relu: bool = True) -> str:
        fan_in, fan_out = channels
        inputs = [source, self.weight(fan_out, fan_in, kernel, kernel), self.weight(fan_out)]
        out = self.add("Conv", inputs, kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[kernel // 2] * 4)
        return self.add("Relu", [out]) if relu else out

    def bottleneck(self, source: str, fan_in: int, width: int, stride: int) -> str:
        out = self.conv(source, (fan_in, width), 1)
        out = self.conv(out, (width, width), 3, stride)
        out = self.conv(out, (width, 4 * width), 1, relu=False)
        if stride != 1 or fan_in != 4 * width:
            source = self.conv(source, (fan_in, 4 * width), 1, stride, relu=False)
        return self.add("Relu", [self.add("Add", [out, source])])


def resnet(
    blocks: Sequence[int] = (3, 4, 6, 3), width: int = 64, size: int = 224, classes: int = 1000
) -> onnx.ModelProto:
    """A bottleneck ResNet, by default ResNet-50 with its 53 Conv and one Gemm; input [N, 3, size, size], output [N,
    classes].
    """
    net = _Net(np.random.default_rng(0))
    out = net.conv("input", (3, width), 7, 2)
    out = net.add("MaxPool", [out], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    fan_in = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            out = net.bottleneck(out, fan_in, width << stage, 2 if stage and not block else 1)
            fan_in = 4 * (width << stage)
    out = net.add("Flatten", [net.add("GlobalAveragePool", [out])])
    net.nodes.append(
        helper.make_node(
            "Gemm", [out, net.weight(classes, fan_in), net.weight(classes)], ["logits"], name="gemm", transB=1
        )
    )
    graph = helper.make_graph(
        net.nodes,
        "resnet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        net.weights,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="enginewright tests"
    )
