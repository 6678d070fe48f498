"""Nine tiny PyTorch networks whose ONNX holds what image models of today hold, as our exporter writes it.

Attention (fused and by hand), windows that shift with their mask, learned queries, gates, transposed convolutions,
norms by hand, mixing over tokens, and a grid of anchors that is computed from the input's size. The weights come from
a seed; norms and biases are moved away from their identity, as training would.
"""

from __future__ import annotations

import functools
import unittest.mock
import warnings
import zlib
from dataclasses import dataclass
from typing import Callable

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import Tensor, nn

from enginewright.config import Export, Input, Model
from enginewright.importers.pytorch import to_onnx


def perceptron(width: int, hidden: int) -> nn.Sequential:
    """Two Linear layers with GELU between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Attention(nn.Module):
    """Self-attention by `scaled_dot_product_attention`, as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        result: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width))
        return result


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, two pre-norm blocks."""

    def __init__(self, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.2)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2 * depth + 1))
        self.attentions = nn.ModuleList(Attention(width, heads) for _ in range(depth))
        self.hidden = nn.ModuleList(perceptron(width, 4 * width) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for index, (attention, hidden) in enumerate(zip(self.attentions, self.hidden)):
            x = x + attention(self.norms[2 * index](x))
            x = x + hidden(self.norms[2 * index + 1](x))
        result: Tensor = self.head(self.norms[-1](x)[:, 0])
        return result


def windows(x: Tensor, size: int) -> Tensor:
    """[N, H, W, C] -> [N * windows, size * size, C]."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def from_windows(x: Tensor, size: int, height: int, width: int) -> Tensor:
    """The inverse of `windows`."""
    x = x.view(-1, height // size, width // size, size, size, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


class WindowAttention(nn.Module):
    """Attention within windows, with a relative position bias and, where they are shifted, Swin's mask of -100."""

    mask: Tensor
    index: Tensor

    def __init__(self, width: int, heads: int, size: int, shift: int, side: int) -> None:
        super().__init__()
        self.heads, self.size, self.shift, self.side = heads, size, shift, side
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * size - 1) ** 2, heads))
        places = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None, :] + size - 1
        self.register_buffer("index", apart[0] * (2 * size - 1) + apart[1])
        regions = torch.zeros(1, side, side, 1)
        for number, (rows, columns) in enumerate((a, b) for a in self._bands() for b in self._bands()):
            regions[:, rows, columns] = number
        region = windows(regions, size).squeeze(-1)
        self.register_buffer("mask", torch.where(region[:, None] == region[:, :, None], 0.0, -100.0))

    def _bands(self) -> list[slice]:
        if not self.shift:
            return [slice(None)]
        return [slice(0, -self.size), slice(-self.size, -self.shift), slice(-self.shift, None)]

    def forward(self, x: Tensor) -> Tensor:
        side, tokens = self.side, self.size**2
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = windows(x, self.size)
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.heads, x.shape[-1] // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.table[self.index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1).unsqueeze(0)
        if self.shift:
            count = self.mask.shape[0]
            scores = scores.view(-1, count, self.heads, tokens, tokens) + self.mask[None, :, None]
            scores = scores.view(-1, self.heads, tokens, tokens)
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, tokens, x.shape[-1])
        x = from_windows(self.out(x), self.size, side, side)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class SwinTransformer(nn.Module):
    """Two blocks, the second with shifted windows, then patches merged."""

    def __init__(self, width: int = 24, side: int = 8, size: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, 2)
        self.attentions = nn.ModuleList(WindowAttention(width, 3, size, shift, side) for shift in (0, size // 2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.hidden = nn.ModuleList(perceptron(width, 2 * width) for _ in range(2))
        merge = nn.Linear(4 * width, 2 * width, bias=False)
        self.merged = nn.Sequential(nn.LayerNorm(4 * width), merge, nn.LayerNorm(2 * width))
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        for index, (attention, hidden) in enumerate(zip(self.attentions, self.hidden)):
            x = x + attention(self.norms[2 * index](x))
            x = x + hidden(self.norms[2 * index + 1](x))
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: Tensor = self.head(self.merged(torch.cat(quarters, -1)).mean((1, 2)))
        return result


class MultiheadAttention(nn.Module):
    """`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` over the places of a convolution."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        result: Tensor = self.head(self.encoder(x).mean(1))
        return result


class DetrQueries(nn.Module):
    """Learned queries that attend to each other, then to the places of a convolution; [N, queries, classes + box]."""

    def __init__(self, width: int = 32, queries: int = 6) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.5)
        self.layers = nn.ModuleList(nn.TransformerDecoderLayer(width, 4, 64, batch_first=True) for _ in range(2))
        self.classes, self.boxes = nn.Linear(width, 5), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.stem(x).flatten(2).transpose(1, 2) + self.positions
        found = self.queries.unsqueeze(0).repeat(x.shape[0], 1, 1)
        for layer in self.layers:
            found = layer(found, memory)
        return torch.cat([self.classes(found), self.boxes(found).sigmoid()], -1)


class SqueezeExcite(nn.Module):
    """An inverted bottleneck with squeeze-and-excitation and hard swish, as MobileNetV3 has it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        wide = 2 * width
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.Hardswish())
        self.expand = nn.Sequential(nn.Conv2d(width, wide, 1), nn.BatchNorm2d(wide), nn.Hardswish())
        self.deep = nn.Sequential(nn.Conv2d(wide, wide, 3, 1, 1, groups=wide), nn.BatchNorm2d(wide), nn.Hardswish())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, wide, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(nn.Conv2d(wide, width, 1), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        deep = self.deep(self.expand(x))
        x = x + self.project(deep * self.squeeze(deep))
        result: Tensor = self.head(x.mean((2, 3)))
        return result


class UNet(nn.Module):
    """An encoder and a decoder of transposed convolutions with a skip; [N, classes, H, W]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.second = self._pair(3, width), self._pair(width, 2 * width)
        self.bottom = self._pair(2 * width, 4 * width)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.down_second, self.down_first = self._pair(4 * width, 2 * width), self._pair(2 * width, width)
        self.head = nn.Conv2d(width, 4, 1)

    @staticmethod
    def _pair(inside: int, outside: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inside, outside, 3, 1, 1), nn.BatchNorm2d(outside), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.down_second(torch.cat([self.up_second(bottom), second], 1))
        result: Tensor = self.head(self.down_first(torch.cat([self.up_first(second), first], 1)))
        return result


class GlobalResponse(nn.Module):
    """A ConvNeXt V2 block: a depthwise 7x7, LayerNorm over channels, and Global Response Normalization."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 2, 2)
        self.deep, self.norm = nn.Conv2d(width, width, 7, 1, 3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma, self.beta = nn.Parameter(torch.randn(4 * width)), nn.Parameter(torch.randn(4 * width) * 0.1)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.gelu(self.expand(self.norm(self.deep(x).permute(0, 2, 3, 1))))
        response = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
        response = response / (response.mean(-1, keepdim=True) + 1e-6)
        y = self.project(y + self.gamma * (y * response) + self.beta)
        result: Tensor = self.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))
        return result


class Mixer(nn.Module):
    """MLP-Mixer: Linear layers over channels and, transposed, over tokens."""

    def __init__(self, width: int = 24, tokens: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth + 1))
        self.tokens = nn.ModuleList(perceptron(tokens, 32) for _ in range(depth))
        self.channels = nn.ModuleList(perceptron(width, 48) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for index, (tokens, channels) in enumerate(zip(self.tokens, self.channels)):
            x = x + tokens(self.norms[2 * index](x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(self.norms[2 * index + 1](x))
        result: Tensor = self.head(self.norms[-1](x).mean(1))
        return result


class YoloHead(nn.Module):
    """Two scales of anchors on a grid computed from the input's size; [N, places, box + objectness + classes]."""

    def __init__(self, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
        self.stem = nn.Sequential(first, nn.Conv2d(width, width, 3, 2, 1), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1), nn.SiLU())
        self.mixed = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.SiLU())
        self.heads = nn.ModuleList(nn.Conv2d(width, 5 + classes, 1) for _ in range(2))

    def _decoded(self, x: Tensor, stride: int) -> Tensor:
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows], -1).view(1, -1, 2).to(x.dtype)
        x = x.flatten(2).transpose(1, 2)
        centre, size, rest = x[..., :2], x[..., 2:4], x[..., 4:]
        return torch.cat([(centre.sigmoid() * 2 - 0.5 + grid) * stride, size.exp() * stride, rest.sigmoid()], -1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        coarse = self.down(fine)
        fine = self.mixed(torch.cat([F.interpolate(coarse, scale_factor=2, mode="nearest"), fine], 1))
        decoded = [self._decoded(head(x), stride) for head, x, stride in zip(self.heads, (fine, coarse), (4, 8))]
        return torch.cat(decoded, 1)


@dataclass(frozen=True)
class SmallModel:
    """A network, and the output that its ONNX has."""

    make: Callable[[], nn.Module]
    input_shape: tuple[int, int, int]
    output_name: str
    products: int  # nodes of Conv, ConvTranspose, Gemm and MatMul

    @property
    def inputs(self) -> dict[str, Input]:
        """As a configuration has them."""
        return {"input": Input(["batch", *self.input_shape])}


SMALL_MODELS = {
    "vit": SmallModel(VisionTransformer, (3, 16, 16), "logits", 14),
    "swin": SmallModel(SwinTransformer, (3, 16, 16), "logits", 15),
    "multihead_attention": SmallModel(MultiheadAttention, (3, 16, 16), "logits", 12),
    "detr_queries": SmallModel(DetrQueries, (3, 16, 16), "boxes", 26),
    "squeeze_excite": SmallModel(SqueezeExcite, (3, 16, 16), "logits", 7),
    "unet": SmallModel(UNet, (3, 16, 16), "masks", 8),
    "grn": SmallModel(GlobalResponse, (3, 16, 16), "logits", 5),
    "mixer": SmallModel(Mixer, (3, 16, 16), "logits", 10),
    "yolo_head": SmallModel(YoloHead, (3, 32, 32), "detections", 6),
}


def network(name: str) -> nn.Module:
    """One of SMALL_MODELS in evaluation mode; the same weights for the same name."""
    # Seeded by name, and without moving the stream of whoever draws from torch's generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(name.encode()))
        made = SMALL_MODELS[name].make().eval()
        for module in made.modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return made


@functools.cache
def _serialized(name: str) -> bytes:
    small = SMALL_MODELS[name]
    interface = Model(name=name, code=f"{name}.py", inputs=small.inputs, outputs=[small.output_name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)  # of checks inside torch's own attention
        return to_onnx(network(name), interface, Export())


def exported(name: str) -> onnx.ModelProto:
    """What the export stage writes for one of SMALL_MODELS: opset 17, the input `input`, a dynamic batch."""
    return onnx.load_model_from_string(_serialized(name))


@functools.cache
def _with_shape_arithmetic(name: str) -> bytes:
    with unittest.mock.patch("enginewright.runtimes.onnxruntime.simplify.fold_static_shapes", lambda model: model):
        return _serialized.__wrapped__(name)


def with_shape_arithmetic(name: str) -> onnx.ModelProto:
    """The same before shape arithmetic over fixed axes is folded, as an ONNX file of other origin has it: Cast to
    float32, Sqrt and Range of a Shape.
    """
    return onnx.load_model_from_string(_with_shape_arithmetic(name))


def batches(name: str, count: int = 2, size: int = 4, seed: int = 1) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Standard normal images, as normalized photographs are, batch by batch."""
    random = np.random.default_rng(seed)
    shape = (size, *SMALL_MODELS[name].input_shape)
    return [{"input": random.standard_normal(shape, dtype=np.float32)} for _ in range(count)]
