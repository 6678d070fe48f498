"""Networks that INT8 hurts, trained on real digits, so that FP32 pays nothing for what hurts.

loud_channel: of one tensor, the channel with the largest values is made 100 times as large, which the next layer takes
back. silu: the same, with a SiLU in between. residual: a sum of what the network needs and of something 100 times as
large, the same in all channels, which the next layer cancels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

CHANNELS, DEPTH, LOUD = 6, 15, 100.0
HOSTILE_LAYER = 12  # which no search is told
BATCH, EPOCHS = 50, 4


class Hostile:
    """Fifteen convolutions, the first with stride 2, and a linear layer: 16 layers on [n, 1, 28, 28]."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.kind = kind
        self.weights = [
            torch.randn(CHANNELS, 1 if layer == 0 else CHANNELS, 3, 3) * (0.3 if layer == 0 else 0.02)
            for layer in range(DEPTH)
        ]
        for weight in self.weights[1:]:  # what is read goes on, so that depth loses nothing
            weight.add_(torch.nn.init.dirac_(torch.empty_like(weight)))
        self.biases = [torch.zeros(CHANNELS) for _ in range(DEPTH)]
        self.classifier = [torch.randn(10, CHANNELS * 49) * 0.02, torch.zeros(10)]
        self.gain = torch.ones(CHANNELS)
        for parameter in self.parameters():
            parameter.requires_grad_()

    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases, *self.classifier]

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution as they are computed with."""
        weight, bias = self.weights[index], self.biases[index]
        if self.kind == "residual":
            if index == HOSTILE_LAYER:
                return weight.abs().mean(dim=0, keepdim=True).expand_as(weight) * LOUD, bias * 0
            if index == HOSTILE_LAYER + 1:
                return weight - weight.mean(dim=1, keepdim=True), bias
        elif index == HOSTILE_LAYER:
            return weight * self.gain[:, None, None, None], bias * self.gain
        elif index == HOSTILE_LAYER + 1:
            return weight / self.gain[None, :, None, None], bias
        return weight, bias

    def __call__(self, x: Tensor, layers: int = DEPTH) -> Tensor:
        for index in range(layers):
            weight, bias = self.layer(index)
            y = functional.conv2d(x, weight, bias, stride=2 if index == 0 else 1, padding=1)
            if index == HOSTILE_LAYER and self.kind == "residual":
                x = x + y
            else:
                x = functional.silu(y) if index == HOSTILE_LAYER and self.kind == "silu" else functional.relu(y)
        return x if layers < DEPTH else functional.linear(functional.avg_pool2d(x, 2).flatten(1), *self.classifier)

    def train(self, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
        steps = EPOCHS * len(images) // BATCH
        optimizer = torch.optim.Adam(self.parameters(), lr=4e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        order = np.concatenate([np.random.default_rng(epoch).permutation(len(images)) for epoch in range(EPOCHS)])
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            loss = functional.cross_entropy(self(torch.from_numpy(images[rows])), torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        if self.kind != "residual":
            with torch.no_grad():
                ranges = self(torch.from_numpy(images), HOSTILE_LAYER + 1).amax(dim=(0, 2, 3))
            self.gain[ranges.argmax()] = LOUD

    def save(self, path: Path) -> None:
        """Write the ONNX, opset 17."""
        graph = _Graph()
        tensor = "input"
        for index in range(DEPTH):
            parameters = (graph.constant(f"{kind}{index}", value) for kind, value in zip("wb", self.layer(index)))
            attributes = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3], "strides": [2, 2] if index == 0 else [1, 1]}
            result = graph.add("Conv", tensor, *parameters, name=f"conv{index}", **attributes)
            if index == HOSTILE_LAYER and self.kind == "residual":
                tensor = graph.add("Add", tensor, result, name="sum")
            elif index == HOSTILE_LAYER and self.kind == "silu":
                tensor = graph.add("Mul", result, graph.add("Sigmoid", result, name="sigmoid"), name="silu")
            else:
                tensor = graph.add("Relu", result, name=f"relu{index}")
        tensor = graph.add(
            "Flatten",
            graph.add("AveragePool", tensor, name="pool", kernel_shape=[2, 2], strides=[2, 2]),
            name="flatten",
        )
        weight, bias = (graph.constant(name, value) for name, value in zip(("w_fc", "b_fc"), self.classifier))
        graph.save(graph.add("Gemm", tensor, weight, bias, name="fc", transB=1), path)


class _Graph:
    """An ONNX graph that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Tensor) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value.detach().numpy()), name))
        return name

    def add(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{name}_output"], name=name, **attributes))
        return f"{name}_output"

    def save(self, result: str, path: Path) -> None:
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 28, 28])]
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["n", 10])]
        graph = helper.make_graph(self.nodes, "hostile", inputs, outputs, self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
