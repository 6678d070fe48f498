"""ResNet-50 v1.5 (He et al. 2015; stride in the 3x3 convolution, as torchvision has it), as ONNX by hand and as a
PyTorch module.

100 MB of weights need not travel: they come from NumPy's frozen RandomState stream, and what was fitted (one scale and
bias a channel, so that activations on photographs are normalised as a trained network's are) is a file of 0.4 MB. Same
layers, shapes and speed as the trained network; its accuracy is that of a random one, so INT8 is judged by the distance
from FP32 alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
BLOCKS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)


@dataclass(frozen=True)
class Conv:
    """One convolution, with the batch normalisation after it folded in."""

    name: str
    channels_in: int
    channels_out: int
    kernel: int
    stride: int

    def weight(self, index: int) -> Array:
        """Standard normal, scaled by He's rule (fan out). float32 [out, in, k, k]."""
        shape = (self.channels_out, self.channels_in, self.kernel, self.kernel)
        drawn = np.random.RandomState(index).standard_normal(
            shape
        )  # the legacy generator: its stream is frozen for good
        weight: Array = (drawn * np.sqrt(2 / (self.channels_out * self.kernel**2))).astype(np.float32)
        return weight


def convolutions() -> Iterator[Conv]:
    """All 53, in the order of execution; a block's shortcut comes last."""
    yield Conv("stem", 3, 64, 7, 2)
    before = 64
    for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            name = f"layer{stage + 1}.{block}"
            yield Conv(f"{name}.conv1", before, width, 1, 1)
            yield Conv(f"{name}.conv2", width, width, 3, stride)
            yield Conv(f"{name}.conv3", width, 4 * width, 1, 1)
            if not block:
                yield Conv(f"{name}.shortcut", before, 4 * width, 1, stride)
            before = 4 * width


class _Graph:
    def __init__(self, fitted: dict[str, Array]) -> None:
        self.fitted = fitted
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.convs = {conv.name: (index, conv) for index, conv in enumerate(convolutions())}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(self, name: str, source: str) -> str:
        index, conv = self.convs[name]
        weight = conv.weight(index) * self.fitted[f"{name}.scale"][:, None, None, None]
        self.weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"),
            numpy_helper.from_array(self.fitted[f"{name}.bias"], f"{name}.bias"),
        ]
        pads, kernel = [conv.kernel // 2] * 4, [conv.kernel] * 2
        return self.node(
            "Conv",
            [source, f"{name}.weight", f"{name}.bias"],
            f"{name}.out",
            pads=pads,
            kernel_shape=kernel,
            strides=[conv.stride] * 2,
        )


def write_onnx(path: Path, fitted: dict[str, Array], size: int) -> None:
    """Write the network for [N, 3, size, size] float32 -> logits [N, 1000], opset 17, one file."""
    graph = _Graph(fitted)
    x = graph.node("Relu", [graph.conv("stem", "input")], "stem.relu")
    x = graph.node("MaxPool", [x], "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            inner = graph.node("Relu", [graph.conv(f"{name}.conv1", x)], f"{name}.relu1")
            inner = graph.node("Relu", [graph.conv(f"{name}.conv2", inner)], f"{name}.relu2")
            inner = graph.conv(f"{name}.conv3", inner)
            beside = x if block else graph.conv(f"{name}.shortcut", x)
            x = graph.node("Relu", [graph.node("Add", [inner, beside], f"{name}.add")], f"{name}.relu3")
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x], "pool")], "flat")
    last = (np.random.RandomState(99).standard_normal((1000, 2048)) / np.sqrt(2048)).astype(np.float32)
    graph.weights += [
        numpy_helper.from_array(last, "fc.weight"),
        numpy_helper.from_array(np.zeros(1000, np.float32), "fc.bias"),
    ]
    graph.node("Gemm", [x, "fc.weight", "fc.bias"], "logits", transB=1)
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])]
    made = helper.make_graph(graph.nodes, "resnet50", inputs, outputs, graph.weights)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="resnet50.py"
    )
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def fit(images: Array) -> dict[str, Array]:
    """Scale and bias of every convolution that give each channel mean 0 and variance 1 (0.25 before a sum) on [N, 3, H,
    W] float32 images.
    """
    import torch
    from torch.nn import functional

    fitted: dict[str, Array] = {}
    order = {conv.name: (index, conv) for index, conv in enumerate(convolutions())}

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        index, shape = order[name]
        out = functional.conv2d(
            x, torch.from_numpy(shape.weight(index)), stride=shape.stride, padding=shape.kernel // 2
        )
        mean, spread = out.mean((0, 2, 3)), out.std((0, 2, 3)) + 1e-5
        gain = 0.5 if name.endswith("conv3") else 1.0
        fitted[f"{name}.scale"] = (gain / spread).numpy().astype(np.float32)
        fitted[f"{name}.bias"] = (-mean * gain / spread).numpy().astype(np.float32)
        return (out - mean[:, None, None]) * (gain / spread)[:, None, None]

    with torch.inference_mode():
        x = functional.max_pool2d(functional.relu(conv("stem", torch.from_numpy(images))), 3, 2, 1)
        for stage, blocks in enumerate(BLOCKS):
            for block in range(blocks):
                name = f"layer{stage + 1}.{block}"
                inner = functional.relu(conv(f"{name}.conv1", x))
                inner = conv(f"{name}.conv3", functional.relu(conv(f"{name}.conv2", inner)))
                x = functional.relu(inner + (x if block else conv(f"{name}.shortcut", x)))
    return fitted
