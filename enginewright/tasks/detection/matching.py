"""Which boxes of two lists for the same image are the same object."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enginewright.tasks.detection.boxes import CLASS, SCORE, Detections, overlaps
from enginewright.tasks.detection.precision import CROWD, TRUTH_CLASS, Truths

SHOWN = 0.25  # a lower score is not shown to people, as in most applications
SAME = 0.5  # of the union of two boxes must be common to both

Pairs = npt.NDArray[np.int64]  # [n, 2]: a row of the first list and one of the second


def pairs(overlapping: npt.NDArray[np.float64]) -> Pairs:
    """Pair rows with columns of `overlaps`, the most alike first, each once; those that are not the SAME stay alone."""
    found = []
    left = np.array(overlapping, np.float64)
    while left.size and left.max() >= SAME:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        found.append((int(row), int(column)))
        left[row, :], left[:, column] = -1, -1
    return np.array(found, np.int64).reshape(-1, 2)


def shown(found: Detections) -> Detections:
    """Those with a score that an application would show."""
    return found[found[:, SCORE] >= SHOWN]


def as_detections(truths: Truths) -> Detections:
    """Truths as a detector would give them that is sure of each; crowds are left out."""
    kept = truths[truths[:, CROWD] == 0]
    return np.column_stack([kept[:, :4], np.ones(len(kept)), kept[:, TRUTH_CLASS]]).astype(np.float32)


def of_one_class(first: Detections, second: Detections) -> npt.NDArray[np.float64]:
    """`overlaps` of detections, 0 between different classes."""
    same = first[:, None, CLASS] == second[None, :, CLASS]
    return np.asarray(overlaps(first, second) * same)
