"""The reference model: a small ResNet, so that a clone is whole. What INT8 must cope with is in it: residual Adds,
BatchNorm, strides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
    figure 2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Where the shape changes, the shortcut is a 1x1 convolution (option B of the paper)."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, channels, H / stride, W / stride]."""
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of residual blocks, global average pooling, one linear layer."""

    def __init__(self, in_channels: int, classes: int, widths: tuple[int, ...] = (16, 32, 64), blocks: int = 1) -> None:
        """`widths` are the channels of the stages; the stem halves the resolution, and so does every stage but the
        first.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(Block(channels, width, stride=2 if stage and not block else 1))
                channels = width
        self.stages = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.stem(x))).flatten(1))
        return logits
