"""The reference model for detection: small, anchor-free, and with the decoding of boxes in its graph, as exported
YOLOs have it. What INT8 must cope with is in it: distances as the mean of a distribution, which a convolution with
fixed weights computes, and pixels and probabilities in one output.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16)  # of the maps that a box is predicted from, in pixels
BOX = 4  # left, top, right and bottom: distances from a point to the edges of its box
BINS = 16  # distances that a network chooses from, in strides: 0 to 15
HEAD_CHANNELS = 48
FIRST_SCORE = 0.018  # a new network finds nothing; else the first steps only unlearn its thousands of boxes


class Predictions(NamedTuple):
    """What a detector returns in training: what a loss needs, before scores are squashed."""

    boxes: Tensor  # [N, A, 4]: x1, y1, x2, y2 in pixels of the input
    logits: Tensor  # [N, A, classes]
    points: Tensor  # [A, 2]: x, y of where each box is predicted from, in pixels
    strides: Tensor  # [A]: distance of a point to the next in pixels
    # [N, A, 4, BINS]: logits of each distance to the left, top, right and bottom edge in strides; None of a network
    # that predicts the distance itself
    distances: Optional[Tensor] = None


class Detector(nn.Module):
    """Four halvings by residual blocks, and boxes from the last two resolutions, the finer with the coarser added in.

    Boxes are distances from a point to four edges, as Z. Tian et al., "FCOS: Fully Convolutional One-Stage Object
    Detection", ICCV 2019, predict them, and a distance is the mean of a distribution over BINS, as in X. Li et al.,
    "Generalized Focal Loss", NeurIPS 2020. In eval mode it answers in the contract `yolo`.
    """

    points: Tensor
    strides: Tensor
    bins: Tensor

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: tuple[int, int],
        widths: tuple[int, int, int, int] = (16, 32, 64, 96),
    ) -> None:
        """`size` is the height and width of the input, multiples of 16; `widths` are the channels at a half to a
        sixteenth of it.
        """
        super().__init__()
        half, quarter, fine, coarse = widths
        self.stem = _convolution(in_channels, half, 3, stride=2)
        self.quarter = nn.Sequential(_convolution(half, quarter, 3, stride=2), Bottleneck(quarter))
        self.fine = nn.Sequential(_convolution(quarter, fine, 3, stride=2), Bottleneck(fine), Bottleneck(fine))
        self.coarse = nn.Sequential(_convolution(fine, coarse, 3, stride=2), Bottleneck(coarse), Bottleneck(coarse))
        self.narrow = _convolution(coarse, fine, 1)
        self.merge = _convolution(fine, fine, 3)
        self.edges = nn.ModuleList([_head(channels, BOX * BINS) for channels in (fine, coarse)])
        self.classes = nn.ModuleList([_head(channels, classes, FIRST_SCORE) for channels in (fine, coarse)])
        points, strides = _grids(size)
        self.count = len(strides)
        self.register_buffer("points", points, persistent=False)  # nothing is learned of these
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("bins", torch.arange(float(BINS)).reshape(1, BINS, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Union[Tensor, Predictions]:
        """Images float32 [N, in_channels, H, W] to what they show.

        Returns:
            In eval mode [N, 4 + classes, A]: centre x, centre y, width, height in pixels, then a score in 0..1 for each
            class. In training mode `Predictions`.
        """
        fine = self.fine(self.quarter(self.stem(x)))
        coarse = self.coarse(fine)
        upsampled = functional.interpolate(self.narrow(coarse), scale_factor=2.0, mode="nearest")
        maps = (self.merge(fine + upsampled), coarse)
        edges = torch.cat([head(features).flatten(2) for head, features in zip(self.edges, maps)], 2)
        logits = torch.cat([head(features).flatten(2) for head, features in zip(self.classes, maps)], 2)
        edges = edges.reshape(-1, BOX, BINS, self.count).transpose(1, 2)  # [N, BINS, BOX, A]
        distances = functional.conv2d(edges.softmax(1), self.bins)[:, 0] * self.strides
        low, high = self.points - distances[:, :2], self.points + distances[:, 2:]
        if self.training:
            boxes = torch.cat([low, high], 1).transpose(1, 2)
            return Predictions(boxes, logits.transpose(1, 2), self.points.T, self.strides, edges.permute(0, 3, 2, 1))
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 1)


class Bottleneck(nn.Module):
    """A 1x1 convolution to half of the channels, a 3x3 one back, and the input added."""

    def __init__(self, channels: int) -> None:
        """As many channels go out."""
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels // 2, 1), _convolution(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> the same."""
        added: Tensor = x + self.layers(x)
        return added


def _convolution(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _head(channels: int, answers: int, first: float = 0.5) -> nn.Sequential:
    """`first`: the sigmoid of what a new network answers."""
    last = nn.Conv2d(HEAD_CHANNELS, answers, 1)
    nn.init.constant_(last.bias, math.log(first / (1 - first)))  # type: ignore[arg-type]  # it has one
    return nn.Sequential(_convolution(channels, HEAD_CHANNELS, 3), last)


def _grids(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The centres of the cells of each map, x and y in pixels, [2, A], and the stride of each, [A]."""
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = (length // stride for length in size)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        points.append((torch.stack([x, y]).flatten(1) + 0.5) * stride)
        strides.append(torch.full((rows * columns,), float(stride)))
    return torch.cat(points, 1), torch.cat(strides)
