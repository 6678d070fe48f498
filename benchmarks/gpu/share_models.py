"""ViT-B/16 and a U-Net with ConvTranspose as ONNX, from NumPy's frozen random stream, so that 350 MB of weights need
not travel; and images for them.

The nodes are those that `enginewright.importers.pytorch` writes for such a network in PyTorch (names, layout,
opset 17, dynamic batch). The weights are random and scaled so that every layer keeps the spread of its input: accuracy
means nothing,
and INT8 is judged by the distance from FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]


def images(count: int, size: int, seed: int) -> Array:
    """Normalized images: flat patches of 16 pixels with noise on them, float32 [count, 3, size, size]."""
    random = np.random.RandomState(seed)  # the legacy generator: its stream is frozen for good
    coarse = random.standard_normal((count, 3, size // 16, size // 16)).repeat(16, axis=2).repeat(16, axis=3)
    result: Array = (coarse + 0.3 * random.standard_normal((count, 3, size, size))).astype(np.float32)
    return result


class Net:
    """Nodes and weights as they are added."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.RandomState(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: list[str], name: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns its first output."""
        results = [f"{name}_output_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, results, name=name, **attributes))
        return results[0]

    def constant(self, name: str, value: Any) -> str:
        """Add an initializer, once; returns its name."""
        if name not in {tensor.name for tensor in self.weights}:
            self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(self, name: str, shape: tuple[int, ...], spread: float) -> str:
        """Add normally distributed weights."""
        return self.constant(name, (self.random.standard_normal(shape) * spread).astype(np.float32))

    def linear(self, name: str, source: str, width: int, result: int) -> str:
        """A Linear over tokens: MatMul and Add."""
        product = self.node(
            "MatMul", [source, self.normal(f"{name}.weight", (width, result), width**-0.5)], f"/{name}/MatMul"
        )
        return self.node("Add", [self.normal(f"{name}.bias", (result,), 0.1), product], f"/{name}/Add")

    def norm(self, name: str, source: str, width: int) -> str:
        """LayerNormalization with a scale and bias away from 1 and 0."""
        scale = self.constant(f"{name}.weight", self.random.uniform(0.5, 1.5, width).astype(np.float32))
        inputs = [source, scale, self.normal(f"{name}.bias", (width,), 0.2)]
        return self.node("LayerNormalization", inputs, f"/{name}/LayerNormalization", axis=-1, epsilon=1e-6)

    def write(self, path: Path, name: str, size: int, result: list[Any]) -> None:
        """The last node makes `output`, [batch, *result]."""
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])]
        outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", *result])]
        self.nodes[-1].output[0] = "output"
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="share_models.py"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())


def vit(path: Path, size: int = 224, width: int = 768, heads: int = 12, depth: int = 12) -> None:
    """ViT-B/16 (Dosovitskiy et al., 2021), as timm's runs through `scaled_dot_product_attention`.

    74 Conv, Gemm and MatMul.
    """
    net, tokens = Net(0), (size // 16) ** 2
    weight = net.normal("patches.weight", (width, 3, 16, 16), (3 * 256) ** -0.5)
    x = net.node(
        "Conv",
        ["input", weight, net.normal("patches.bias", (width,), 0.1)],
        "/patches/Conv",
        kernel_shape=[16, 16],
        strides=[16, 16],
    )
    x = net.node("Reshape", [x, net.constant("flat", np.array([-1, width, tokens]))], "/Reshape")
    x = net.node("Transpose", [x], "/Transpose", perm=[0, 2, 1])
    shape = net.node("Shape", [x], "/Shape")
    batch = net.node(
        "Slice", [shape, net.constant("zero", np.array([0])), net.constant("one", np.array([1]))], "/Slice"
    )
    sizes = net.node("Concat", [batch, net.constant("token_shape", np.array([1, width]))], "/Concat", axis=0)
    token = net.node("Expand", [net.normal("token", (1, 1, width), 1.0), sizes], "/Expand")
    x = net.node("Concat", [token, x], "/Concat_1", axis=1)
    x = net.node("Add", [x, net.normal("positions", (1, tokens + 1, width), 0.5)], "/Add")
    for block in range(depth):
        x = _block(net, f"blocks.{block}", x, (tokens + 1, width, heads))
    x = net.norm("norm", x, width)
    x = net.node("Gather", [x, net.constant("first", np.array(0))], "/Gather", axis=1)
    inputs = [x, net.normal("head.weight", (1000, width), width**-0.5), net.normal("head.bias", (1000,), 0.1)]
    net.node("Gemm", inputs, "/head/Gemm", transB=1)
    net.write(path, "vit", size, [1000])


def _block(net: Net, name: str, x: str, shape: tuple[int, int, int]) -> str:
    tokens, width, heads = shape
    inner = net.linear(f"{name}/attn/qkv", net.norm(f"{name}/norm1", x, width), width, 3 * width)
    inner = net.node(
        "Reshape",
        [inner, net.constant("split", np.array([-1, tokens, 3, heads, width // heads]))],
        f"/{name}/attn/Reshape",
    )
    inner = net.node("Transpose", [inner], f"/{name}/attn/Transpose", perm=[2, 0, 3, 1, 4])
    q, k, v = (
        net.node("Gather", [inner, net.constant(f"place_{index}", np.array(index))], f"/{name}/attn/Gather_{index}")
        for index in range(3)
    )
    scale = net.constant("scale", np.float32((width // heads) ** -0.25))  # on either side, as PyTorch exports it
    q = net.node("Mul", [q, scale], f"/{name}/attn/Mul")
    k = net.node(
        "Mul",
        [net.node("Transpose", [k], f"/{name}/attn/Transpose_1", perm=[0, 1, 3, 2]), scale],
        f"/{name}/attn/Mul_1",
    )
    scores = net.node("Softmax", [net.node("MatMul", [q, k], f"/{name}/attn/MatMul")], f"/{name}/attn/Softmax", axis=-1)
    inner = net.node(
        "Transpose",
        [net.node("MatMul", [scores, v], f"/{name}/attn/MatMul_1")],
        f"/{name}/attn/Transpose_2",
        perm=[0, 2, 1, 3],
    )
    inner = net.node(
        "Reshape", [inner, net.constant("joined", np.array([-1, tokens, width]))], f"/{name}/attn/Reshape_1"
    )
    x = net.node("Add", [x, net.linear(f"{name}/attn/proj", inner, width, width)], f"/{name}/Add")
    inner = net.linear(f"{name}/mlp/fc1", net.norm(f"{name}/norm2", x, width), width, 4 * width)
    erf = net.node(
        "Erf",
        [net.node("Div", [inner, net.constant("root_two", np.float32(2**0.5))], f"/{name}/mlp/Div")],
        f"/{name}/mlp/Erf",
    )
    gate = net.node("Add", [erf, net.constant("unit", np.float32(1))], f"/{name}/mlp/Add")
    inner = net.node("Mul", [inner, gate], f"/{name}/mlp/Mul")
    inner = net.node("Mul", [inner, net.constant("half", np.float32(0.5))], f"/{name}/mlp/Mul_1")
    return net.node("Add", [x, net.linear(f"{name}/mlp/fc2", inner, 4 * width, width)], f"/{name}/Add_1")


def unet(path: Path, size: int = 128, widths: tuple[int, ...] = (32, 64, 128, 256), classes: int = 4) -> None:
    """A U-Net (Ronneberger et al., 2015) whose way up is ConvTranspose of kernel 2 and stride 2."""
    net = Net(1)

    def conv(name: str, source: str, channels: tuple[int, int], kernel: int = 3) -> str:
        shape = (channels[1], channels[0], kernel, kernel)
        inputs = [
            source,
            net.normal(f"{name}.weight", shape, (2 / (channels[0] * kernel**2)) ** 0.5),
            net.normal(f"{name}.bias", channels[1:], 0.05),
        ]
        return net.node("Conv", inputs, f"/{name}/Conv", kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)

    def pair(name: str, source: str, channels: tuple[int, int]) -> str:
        for index, before in enumerate((channels[0], channels[1])):
            source = net.node("Relu", [conv(f"{name}.{index}", source, (before, channels[1]))], f"/{name}.{index}/Relu")
        return source

    x, kept, before = "input", [], 3
    for level, width in enumerate(widths):
        x = pair(
            f"down.{level}",
            x if not level else net.node("MaxPool", [x], f"/pool.{level}/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
            (before, width),
        )
        kept.append(x)
        before = width
    for level in reversed(range(len(widths) - 1)):
        width = widths[level]
        inputs = [
            x,
            net.normal(f"up.{level}.weight", (before, width, 2, 2), before**-0.5),
            net.normal(f"up.{level}.bias", (width,), 0.05),
        ]
        x = net.node("ConvTranspose", inputs, f"/up.{level}/ConvTranspose", kernel_shape=[2, 2], strides=[2, 2])
        x = pair(f"join.{level}", net.node("Concat", [kept[level], x], f"/Concat.{level}", axis=1), (2 * width, width))
        before = width
    conv("head", x, (before, classes), 1)
    net.write(path, "unet", size, [classes, size, size])
