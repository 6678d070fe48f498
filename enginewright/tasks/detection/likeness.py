"""How like the detections of two engines for the same image are: what ranks layers, where mAP is too coarse."""

from __future__ import annotations

import numpy as np

from enginewright.tasks.detection.boxes import SCORE, Detections
from enginewright.tasks.detection.matching import of_one_class

LEAST = 0.05  # boxes with a lower score than this in both lists are left out


def likeness(found: Detections, reference: Detections) -> float:
    """Compare detections [k, 6] with those of a reference, [m, 6], for the same image.

    Each box of either list counts by its score: with the overlap of the best box of its class in the other list, times
    the lower of both scores over the higher.

    Returns:
        1 where both lists are equal or empty, 0 where no box of one overlaps one of the other.
    """
    found, reference = found[found[:, SCORE] >= LEAST], reference[reference[:, SCORE] >= LEAST]
    if not len(found) or not len(reference):
        return float(len(found) == len(reference))
    own, wanted = found[:, SCORE].astype(np.float64), reference[:, SCORE].astype(np.float64)
    lower = np.minimum(own[:, None], wanted[None])
    alike = of_one_class(found, reference) * lower / np.maximum(own[:, None], wanted[None])
    total = (alike.max(axis=1) * own).sum() + (alike.max(axis=0) * wanted).sum()
    return float(total / (own.sum() + wanted.sum()))
