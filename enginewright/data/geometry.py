"""Where an image lies in what a model is fed, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Geometry:
    """The map of an image to the input that a recipe makes of it: input = scale * image + offset, in pixels.

    Pairs are (y, x), as the axes of an array are.
    """

    size: tuple[int, int]  # height and width of the image
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)  # negative where a crop cuts off what comes before, positive for padding

    def to_row(self) -> npt.NDArray[np.float64]:
        """As an image set keeps it: [6], of `size`, `scale` and `offset`."""
        return np.array([*self.size, *self.scale, *self.offset], np.float64)

    @classmethod
    def from_row(cls, row: npt.NDArray[np.float64]) -> Geometry:
        """Inverse of `to_row`."""
        height, width, *others = row.tolist()
        return cls((int(height), int(width)), (others[0], others[1]), (others[2], others[3]))

    def boxes_to_input(self, boxes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Map boxes float [..., 4], x1 y1 x2 y2 in pixels of the image, to the input."""
        scale, offset = self._corners()
        return np.asarray(np.asarray(boxes, np.float64) * scale + offset)

    def boxes_to_image(self, boxes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Map boxes float [..., 4], x1 y1 x2 y2 in pixels of the input, to the image, and clip them to its edges."""
        scale, offset = self._corners()
        height, width = self.size
        return np.clip((np.asarray(boxes, np.float64) - offset) / scale, 0, [width, height, width, height])

    def mask_to_image(self, mask: npt.NDArray[Any], outside: int) -> npt.NDArray[Any]:
        """Map a value for each pixel of the input, [h, w], to the image, [H, W], by the nearest pixel.

        `outside` stands where the input shows nothing of the image.
        """
        found = np.full(self.size, outside, mask.dtype)
        rows, columns = (
            np.floor((np.arange(length) + 0.5) * scale + offset).astype(np.int64)
            for length, scale, offset in zip(self.size, self.scale, self.offset)
        )
        inside = [(places >= 0) & (places < length) for places, length in zip((rows, columns), mask.shape)]
        found[np.ix_(*inside)] = mask[np.ix_(rows[inside[0]], columns[inside[1]])]
        return found

    def _corners(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return np.array([*self.scale[::-1]] * 2, np.float64), np.array([*self.offset[::-1]] * 2, np.float64)
