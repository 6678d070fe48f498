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
Rows = npt.NDArray[np.int64]
Detections = npt.NDArray[np.float32]  # [k, 6]: a box, its score, its class
COLUMNS = 6
SCORE, CLASS = 4, 5
PADDING = -1.0  # the score of a row that is no detection
BLOCK = 128  # boxes that are compared with each other at once
MOST_PICKED = 3  # pairs of one class are picked out unless they are more than one in so many, as picking takes time too
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
    left, right = _Corners(first), _Corners(second)
    return left.overlaps(np.arange(len(first))[:, None], right, np.arange(len(second)))


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
    corners, classes, kept = _Corners(found), found[:, CLASS], np.empty(0, np.int64)

    def covered(rows: Rows, by: Rows, asked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Where `asked`, whether a row overlaps one of `by` by more than the limit: [rows, by]."""
        pairs = np.flatnonzero(asked)
        if MOST_PICKED * len(pairs) > asked.size:
            return np.asarray((corners.overlaps(rows[:, None], corners, by) > limits.iou) & asked)
        one, other = np.divmod(pairs, max(len(by), 1))
        asked.flat[pairs] = corners.overlaps(rows[one], corners, by[other]) > limits.iou
        return asked

    for start in range(0, len(found), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(found)))
        rows = rows[~covered(rows, kept, classes[rows][:, None] == classes[kept]).any(axis=1)]
        later = covered(rows, rows, np.triu(classes[rows][:, None] == classes[rows], 1))
        alive = np.ones(len(rows), bool)
        for row in np.flatnonzero(later.any(axis=1)):
            if alive[row]:
                alive &= ~later[row]
        kept = np.concatenate([kept, rows[alive]])
        if len(kept) >= limits.detections:
            break
    return found[kept[: limits.detections]]


class _Corners:
    """Boxes with each corner and the areas laid out together, which many comparisons read faster."""

    def __init__(self, boxes: Boxes) -> None:
        self._corners = np.ascontiguousarray(boxes[:, :4].T, np.float64)
        self._areas = area(self._corners.T)

    def overlaps(self, rows: Rows, other: _Corners, its: Rows) -> npt.NDArray[np.float64]:
        """Intersection over union of these rows with the other's; their axes broadcast."""
        left, right = self._corners[:, rows], other._corners[:, its]
        # in place: of so many pairs, new arrays cost more than arithmetic
        both, height = (np.minimum(left[axis + 2], right[axis + 2]) for axis in (0, 1))
        both -= np.maximum(left[0], right[0])
        height -= np.maximum(left[1], right[1])
        np.maximum(both, 0, out=both)
        np.maximum(height, 0, out=height)
        both *= height
        union = self._areas[rows] + other._areas[its]
        union -= both
        return np.asarray(np.divide(both, union, out=np.zeros(both.shape), where=union > 0))


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
