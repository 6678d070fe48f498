"""What tasks.detection computes, once more as one would write it down: loops over boxes, no arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = tuple[float, float, float, float, float, int]  # x1, y1, x2, y2, score, class


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (one, other)]
    return both / (sum(areas) - both) if sum(areas) - both > 0 else 0.0


def nms(rows: Sequence[Row], threshold: float, most: int) -> list[Row]:
    """Every box of a class that no kept one of a higher score covers."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: -row[4]):  # stable
        if all(row[5] != other[5] or iou(row, other) <= threshold for other in kept):
            kept.append(row)
    return kept[:most]


def from_centre(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
