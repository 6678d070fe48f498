"""MobileNetV3 (A. Howard and others, arXiv 1905.02244), as torchvision's mobilenet_v3_small."""

from __future__ import annotations

from torch import Tensor, nn

# kernel, expanded, out, squeeze and excite, Hardswish, stride
SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def conv(inner: int, outer: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outer, eps=0.001),
    )


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole image holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 4 + 4) // 8 * 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.inner, self.outer = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        weights: Tensor = self.outer(self.fc2(self.inner(self.fc1(self.pool(x)))))
        return weights * x


class Inverted(nn.Module):
    """Expand, depthwise, squeeze and excite, project."""

    def __init__(self, inner: int, row: tuple[int, int, int, bool, bool, int]) -> None:
        super().__init__()
        kernel, expanded, outer, excites, hard, stride = row
        act = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = [conv(inner, expanded), act()] if expanded != inner else []
        layers += [conv(expanded, expanded, kernel, stride, expanded), act()]
        layers += [SqueezeExcite(expanded)] if excites else []
        self.block = nn.Sequential(*layers, conv(expanded, outer))
        self.skips = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        """[N, inner, H, W] to [N, outer, H / stride, W / stride]."""
        y: Tensor = self.block(x)
        return y + x if self.skips else y


class MobileNetV3Small(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        blocks, inner = [], 16
        for row in SMALL:
            blocks.append(Inverted(inner, row))
            inner = row[2]
        self.features = nn.Sequential(
            conv(3, 16, 3, 2), nn.Hardswish(), *blocks, conv(inner, 576), nn.Hardswish(), nn.AdaptiveAvgPool2d(1)
        )
        self.classifier = nn.Sequential(nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, classes))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
