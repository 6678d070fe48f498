"""Suppression keeps what a plain loop keeps."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.tasks.detection import boxes
from enginewright.tasks.detection.boxes import Detections, Limits
from support import plain_boxes as plainly


def crowded(seed: int, count: int) -> Detections:
    """Boxes of two classes that often lie on each other, some empty, some with equal scores."""
    rng = np.random.default_rng(seed)
    low, sides = rng.integers(0, 30, (count, 2)), rng.integers(0, 12, (count, 2))
    scores = np.round(rng.random(count), 1 + seed % 3)
    return boxes.detections(np.concatenate([low, low + sides], axis=1), scores, rng.integers(0, 2, count), count)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("block", [7, boxes.BLOCK])
def test_suppression_keeps_what_a_plain_loop_keeps(iou: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "BLOCK", block)
    for seed in range(200):
        found = crowded(seed, 1 + seed % 60)
        kept = boxes.suppressed(found, Limits(iou=iou, detections=10))
        wanted = plainly.nms([(*row[:5], int(row[5])) for row in found.tolist()], iou, 10)
        assert kept.tolist() == [list(row) for row in wanted], seed


def test_of_nothing_nothing_is_left() -> None:
    assert boxes.suppressed(np.empty((0, 6), np.float32), Limits()).shape == (0, 6)


def test_what_is_stacked_comes_back() -> None:
    found = [crowded(seed, count) for seed, count in enumerate((0, 3, 5))]
    stacked = boxes.stacked(found, 5)
    assert stacked.shape == (3, 5, 6)
    for rows, own in zip(stacked, found):
        assert boxes.unstacked(rows).tolist() == own.tolist()
