"""Two outputs, in a dict: which digit it is, and how much ink it has."""

from __future__ import annotations

from torch import Tensor, nn


class DigitAndInk(nn.Module):
    """Images [N, 1, 28, 28] to {"logits": [N, classes], "ink": [N, 1]}."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((1, width), (width, 2 * width), (2 * width, 2 * width)):
            layers += [nn.Conv2d(inner, outer, 3, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.digit, self.ink = nn.Linear(32 * width, classes), nn.Linear(32 * width, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """See the class."""
        features = self.features(image)
        return {"logits": self.digit(features), "ink": self.ink(features)}
