"""Boxes as arrays, and what is done to them after a detector: overlap, and suppression of doubles.

A detection is a row of float32 [k, 6]: x1, y1, x2, y2 in pixels, score in 0..1, class. Rows stand in the order of
their scores, the highest first; of equal scores the one that the model gave first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[Any]  # [k, 4]: x1, y1, x2, y2
Detections = npt.NDArray[np.float32]  # [k, 6]: a box, its score, its class
COLUMNS = 6
SCORE, CLASS = 4, 5
PADDING = -1.0  # the score of a row that is no detection
BLOCK = 256  # boxes that are compared with each other at once
MOST_CANDIDATES = 30_000  # of an image that enter suppression, as in ultralytics' `max_nms`


@dataclass(frozen=True)
class Limits:
    """Which detections are kept. The defaults are those that ultralytics validates with."""

    confidence: float = 0.001  # a lower score is dropped
    iou: float = 0.7  # of two boxes of one class that overlap more, the lower score is dropped
    detections: int = 300  # the most of an image


def detections(boxes: Boxes, scores: npt.NDArray[Any], classes: npt.NDArray[Any], most: int) -> Detections:
    """Put the `most` highest scores together, [k, 6].

    Args:
        boxes: [n, 4].
        scores: [n].
        classes: [n].
        most: rows of the answer.
    """
    order = np.argsort(-scores, kind="stable")[:most]
    found = np.empty((len(order), COLUMNS), np.float32)
    found[:, :4], found[:, SCORE], found[:, CLASS] = boxes[order], scores[order], classes[order]
    return found


def corners(centred: npt.NDArray[Any]) -> Boxes:
    """Turn centre x, centre y, width, height into x1, y1, x2, y2, [..., 4]."""
    half = centred[..., 2:4] / 2
    return np.concatenate([centred[..., :2] - half, centred[..., :2] + half], axis=-1)


def overlaps(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each of [k, 4] with each of [m, 4]: [k, m]. Two empty boxes do not overlap."""
    left, right = np.asarray(first[:, :4], np.float64), np.asarray(second[:, :4], np.float64)
    sides = [
        np.maximum(
            np.minimum(left[:, None, axis + 2], right[:, axis + 2]) - np.maximum(left[:, None, axis], right[:, axis]), 0
        )
        for axis in (0, 1)
    ]
    both = sides[0] * sides[1]
    union = area(left)[:, None] + area(right) - both
    return np.asarray(np.divide(both, union, out=np.zeros(both.shape), where=union > 0))


def area(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Of boxes [n, 4] in square pixels, [n]; 0 where a corner lies on the wrong side."""
    return np.asarray(np.prod(np.maximum(boxes[:, 2:4] - boxes[:, :2], 0), axis=1, dtype=np.float64))


def suppressed(found: Detections, limits: Limits) -> Detections:
    """Drop what overlaps a higher score of its class by more than `limits.iou`, and keep the highest of the rest.

    Greedy non-maximum suppression, one class apart from another. Boxes are taken in the order of their scores, a BLOCK
    at once, so it can stop at `limits.detections`.

    Args:
        found: [k, 6] of one image, in the order of their scores.
        limits: `iou` and `detections` are used.
    """
    kept = np.empty(0, np.int64)
    for start in range(0, len(found), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(found)))
        rows = rows[~_covered(found[rows], found[kept], limits.iou).any(axis=1)]
        covered, alive = _covered(found[rows], found[rows], limits.iou), np.ones(len(rows), bool)
        for row in range(len(rows)):
            if alive[row]:
                alive[row + 1 :] &= ~covered[row, row + 1 :]
        kept = np.concatenate([kept, rows[alive]])
        if len(kept) >= limits.detections:
            break
    return found[kept[: limits.detections]]


def _covered(found: Detections, by: Detections, iou: float) -> npt.NDArray[np.bool_]:
    """Whether each of [k, 6] overlaps each of [m, 6] by more than `iou` and is of its class: [k, m]."""
    return np.asarray((overlaps(found, by) > iou) & (found[:, None, CLASS] == by[:, CLASS]))


def stacked(found: Sequence[Detections], most: int) -> npt.NDArray[np.float32]:
    """Put the detections of several images into one array, [n, most, 6]; rows with the score PADDING follow the last of
    an image.
    """
    answer = np.zeros((len(found), most, COLUMNS), np.float32)
    answer[:, :, SCORE] = PADDING
    for index, rows in enumerate(found):
        answer[index, : len(rows)] = rows
    return answer


def unstacked(rows: npt.NDArray[np.float32]) -> Detections:
    """The detections of one image, [k, 6], of `stacked` rows [most, 6]."""
    return rows[rows[:, SCORE] >= 0]
