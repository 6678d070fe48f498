"""YOLOX (Z. Ge and others, arXiv 2107.08430), written anew after its Apache-2.0 code: Focus, CSPDarknet, PAFPN, and
decoupled heads, with BatchNorm folded into the convolutions, as the deployed files have it.

The weights are those of `common_det.onnx`, which the MIT-licensed package ddddocr ships: a YOLOX-tiny of one class that
finds characters, trained at 416. `weights` moves its convolutions over in the order in which both run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)


class Conv(nn.Module):
    """Convolution and SiLU."""

    def __init__(self, inner: int, outer: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inner, H, W] to [N, outer, H / stride, W / stride]."""
        return functional.silu(self.conv(x))


class Bottleneck(nn.Module):
    """1x1 and 3x3, with a skip where `skips`."""

    def __init__(self, width: int, skips: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.skips = Conv(width, width), Conv(width, width, 3), skips

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same."""
        y: Tensor = self.conv2(self.conv1(x))
        return y + x if self.skips else y


class Csp(nn.Module):
    """Half of the channels through bottlenecks, half past them."""

    def __init__(self, inner: int, outer: int, count: int = 1, skips: bool = True) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(inner, outer // 2), Conv(inner, outer // 2)
        self.conv3 = Conv(outer, outer)
        self.m = nn.Sequential(*(Bottleneck(outer // 2, skips) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inner, H, W] to [N, outer, H, W]."""
        past, through = self.conv1(x), self.conv2(x)
        result: Tensor = self.conv3(torch.cat([self.m(past), through], 1))
        return result


class Spp(nn.Module):
    """Pooling over three windows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width // 2), Conv(width * 2, width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same."""
        x = self.conv1(x)
        result: Tensor = self.conv2(torch.cat([x, *(functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13))], 1))
        return result


class Head(nn.Module):
    """What is where, on one level: [N, 5 + classes, H, W] of boxes, objectness and classes."""

    def __init__(self, inner: int, width: int, classes: int) -> None:
        super().__init__()
        self.stem = Conv(inner, width)
        self.cls_convs = nn.Sequential(Conv(width, width, 3), Conv(width, width, 3))
        self.cls_pred = nn.Conv2d(width, classes, 1)
        self.reg_convs = nn.Sequential(Conv(width, width, 3), Conv(width, width, 3))
        self.reg_pred, self.obj_pred = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inner, H, W] to the above."""
        x = self.stem(x)
        found = self.cls_pred(self.cls_convs(x))
        near = self.reg_convs(x)
        return torch.cat([self.reg_pred(near), self.obj_pred(near).sigmoid(), found.sigmoid()], 1)


class YoloX(nn.Module):
    """Images [N, 3, H, W], BGR from 0 to 255, to [N, anchors, 5 + classes], boxes in strides and logarithms."""

    def __init__(self, classes: int = 1, width: float = 0.375, depth: float = 0.33) -> None:
        super().__init__()
        base, count = int(64 * width), max(round(3 * depth), 1)
        a, b, c, d, e = (base * 2**power for power in range(5))
        self.stem = Conv(12, a, 3)
        self.dark2 = nn.Sequential(Conv(a, b, 3, 2), Csp(b, b, count))
        self.dark3 = nn.Sequential(Conv(b, c, 3, 2), Csp(c, c, 3 * count))
        self.dark4 = nn.Sequential(Conv(c, d, 3, 2), Csp(d, d, 3 * count))
        self.dark5 = nn.Sequential(Conv(d, e, 3, 2), Spp(e), Csp(e, e, count, skips=False))
        self.lateral, self.p4 = Conv(e, d), Csp(2 * d, d, count, skips=False)
        self.reduce, self.p3 = Conv(d, c), Csp(2 * c, c, count, skips=False)
        self.down3, self.n3 = Conv(c, c, 3, 2), Csp(2 * c, d, count, skips=False)
        self.down4, self.n4 = Conv(d, d, 3, 2), Csp(2 * d, e, count, skips=False)
        self.heads = nn.ModuleList([Head(inner, int(256 * width), classes) for inner in (c, d, e)])

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        eighth = self.dark3(self.dark2(self.stem(torch.cat(parts, 1))))
        sixteenth = self.dark4(eighth)
        top = self.lateral(self.dark5(sixteenth))
        middle = self.reduce(self.p4(torch.cat([functional.interpolate(top, scale_factor=2.0), sixteenth], 1)))
        fine = self.p3(torch.cat([functional.interpolate(middle, scale_factor=2.0), eighth], 1))
        mid = self.n3(torch.cat([self.down3(fine), middle], 1))
        coarse = self.n4(torch.cat([self.down4(mid), top], 1))
        found = [head(level).flatten(2) for head, level in zip(self.heads, (fine, mid, coarse))]
        return torch.cat(found, 2).transpose(1, 2)


def weights(file: Path) -> dict[str, Any]:
    """The state dict of a `YoloX()` with the convolutions of an ONNX file of the same network."""
    import onnx

    graph = onnx.load(file).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    given = [tuple(stored[name] for name in node.input[1:]) for node in graph.node if node.op_type == "Conv"]
    network, order = YoloX().eval(), list[nn.Conv2d]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda layer, _given, _made: order.append(layer))
    network(torch.zeros(1, 3, 64, 64))
    with torch.no_grad():
        for layer, (weight, bias) in zip(order, given):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))  # type: ignore[union-attr]
    assert len(order) == len(given)
    return network.state_dict()
