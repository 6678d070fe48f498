"""U-Net (O. Ronneberger and others, arXiv 1505.04597): any height and width, up by transposed convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def double(inner: int, outer: int) -> nn.Sequential:
    """Two 3x3 convolutions with BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inner, outer):
        layers += [nn.Conv2d(channels, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Images [N, channels, H, W] to logits [N, classes, H, W]."""

    def __init__(self, channels: int, classes: int, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList([double(channels, width), *(double(a, b) for a, b in zip(widths, widths[1:]))])
        self.up = nn.ModuleList([nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(widths, widths[1:])])
        self.join = nn.ModuleList([double(2 * a, a) for a in widths[:-1]])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        seen = [self.down[0](x)]
        for layer in list(self.down)[1:]:
            seen.append(layer(functional.max_pool2d(seen[-1], 2)))
        y = seen.pop()
        for up, join in zip(reversed(self.up), reversed(self.join)):
            skip = seen.pop()
            y = up(y)
            missing = (0, skip.shape[3] - y.shape[3], 0, skip.shape[2] - y.shape[2])  # where a size was odd
            y = join(torch.cat([skip, functional.pad(y, missing)], 1))
        logits: Tensor = self.head(y)
        return logits
