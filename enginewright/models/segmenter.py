"""The reference model for segmentation: small and fully convolutional. What INT8 must cope with is in it: upsampling,
and Adds of what differs in range.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from enginewright.models.resnet import Block


class Segmenter(nn.Module):
    """Down to a quarter of the resolution by residual blocks, and up again by Adds with what came down.

    As J. Long, E. Shelhamer, T. Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, add finer
    layers to coarser ones. Nearest-neighbour Resize and not a transposed convolution: every backend quantizes around
    it.
    """

    def __init__(self, in_channels: int, classes: int, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        """`widths` are the channels at full, half and quarter resolution."""
        super().__init__()
        full, half, quarter = widths
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, full, 3, padding=1, bias=False), nn.BatchNorm2d(full), nn.ReLU()
        )
        self.down = nn.ModuleList([Block(full, half, stride=2), Block(half, quarter, stride=2)])
        self.middle = Block(quarter, quarter, stride=1)
        self.narrow = nn.ModuleList([nn.Conv2d(quarter, half, 1), nn.Conv2d(half, full, 1)])
        self.up = nn.ModuleList([Block(half, half, stride=1), Block(full, full, stride=1)])
        self.classifier = nn.Conv2d(full, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 [N, in_channels, H, W], H and W multiples of 4, to logits [N, classes, H, W]."""
        skips = [self.stem(x)]
        for block in self.down:
            skips.append(block(skips[-1]))
        y = self.middle(skips.pop())
        for narrow, block in zip(self.narrow, self.up):
            y = block(torch.relu(functional.interpolate(narrow(y), scale_factor=2.0, mode="nearest") + skips.pop()))
        logits: Tensor = self.classifier(y)
        return logits
