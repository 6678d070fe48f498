"""Small networks, and what is wrong with some of them."""

from __future__ import annotations

import torch
from torch import nn

from enginewright import config

INTERFACE = config.Model(
    name="tiny",
    code="tiny.py",
    weights="tiny.pt",
    inputs={"pixels": config.Input(["batch", 1, 8, 8])},
    outputs=["scores"],
)


class Tiny(nn.Module):
    """Conv, BatchNorm that changes its input, Relu, Linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 2)
            self.norm.bias.uniform_(-1, 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(features)
        return scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x).mean((2, 3)))


class BakedBatch(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x).view(int(x.shape[0]), 4, -1).mean(2))


class RepeatedRows(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).repeat(2, 1)


class TwoOutputs(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = super().forward(x)
        return scores, scores.softmax(1)  # type: ignore[return-value]


class Noise(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(3)


class NoOnnxForm(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bessel: torch.Tensor = torch.special.bessel_j0(super().forward(x))
        return bessel


def with_nan() -> nn.Module:
    model = Tiny()
    with torch.no_grad():
        model.head.weight[1, 2] = float("nan")
    return model


class CachedAnchors(Tiny):
    """As YOLO heads do: a grid made in `forward` once for each shape, and kept."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        if getattr(self, "shape", None) != features.shape[2:]:
            self.shape = features.shape[2:]
            self.anchors = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij"))
        return self.scores((features * self.anchors.sum(0)).mean((2, 3)))


class Logarithm(Tiny):
    """Right on images, which are positive, and NaN on normal noise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.log())


class Unstable(Tiny):
    """The difference of two large numbers that nearly cancel, summed in an order that each library chooses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.features(x) + 3000.0
        return self.scores(large.mean((2, 3)) - 3000.0)
