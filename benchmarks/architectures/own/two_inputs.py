"""Two inputs: a digit turned by quarters, and a vector of metadata that says by how many. A 6 and a 9 differ by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImageAndMetadata(nn.Module):
    """Image [N, 1, 28, 28] and metadata [N, 4] to logits [N, classes]."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.metadata = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(32 * width + width, 128), nn.ReLU(), nn.Linear(128, classes))

    def forward(self, image: Tensor, metadata: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(torch.cat([self.image(image), self.metadata(metadata)], 1))
        return logits
