"""ConvNeXt (Z. Liu and others, arXiv 2201.03545), as in torchvision; the depths and widths of its smallest are timm's
convnext_atto.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        x = functional.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Block(nn.Module):
    """A depthwise 7x7 convolution, then two products over the channels, with a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(functional.gelu(self.expand(y))).permute(0, 3, 1, 2)
        result: Tensor = x + self.scale * y
        return result


class ConvNeXt(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(
        self, classes: int, depths: Sequence[int] = (2, 2, 6, 2), widths: Sequence[int] = (40, 80, 160, 320)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), LayerNorm2d(widths[0], eps=1e-6)]
        for index, (depth, width) in enumerate(zip(depths, widths)):
            if index:
                inner = widths[index - 1]
                layers += [LayerNorm2d(inner, eps=1e-6), nn.Conv2d(inner, width, 2, 2)]
            layers += [Block(width) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm, self.head = LayerNorm2d(widths[-1], eps=1e-6), nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(self.norm(self.features(x).mean((2, 3), keepdim=True)).flatten(1))
        return logits
