"""A network whose activation is an operator of the user's own, which ONNX does not have: Snake (L. Ziyin and others,
arXiv 2006.08195), x + sin(x)^2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SnakeFunction(torch.autograd.Function):
    """Snake in PyTorch, and as one node in ONNX."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """The value."""
        context.save_for_backward(x)
        return x + torch.sin(x) ** 2

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        """The gradient."""
        (x,) = context.saved_tensors
        return slope * (1 + torch.sin(2 * x))

    @staticmethod
    def symbolic(graph: Any, x: Any) -> Any:
        """The node."""
        return graph.op("ai.onnx.contrib::Snake", x).setType(x.type())


class SnakeNet(nn.Module):
    """Images [N, 1, 28, 28] to logits [N, classes]."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inner, outer, 3, 2, 1, bias=False), nn.BatchNorm2d(outer))
            for inner, outer in ((1, width), (width, 2 * width), (2 * width, 2 * width))
        )
        self.head = nn.Linear(32 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        for layer in self.layers:
            x = SnakeFunction.apply(layer(x))  # type: ignore[no-untyped-call]
        logits: Tensor = self.head(x.flatten(1))
        return logits
