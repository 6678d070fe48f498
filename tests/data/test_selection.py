"""Selections on points whose answer can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.config import Selection
from enginewright.data.selection import coverage_radius, interleave, k_center_greedy, select, thumbnail
from enginewright.errors import DataError

LINE = np.array([[0.0], [1.0], [2.0], [50.0], [51.0], [100.0]])


def test_k_center_starts_in_the_middle_and_takes_the_farthest() -> None:
    # the mean is 34; 50 is nearest, then 0 and 100 are equally far and the first is taken
    assert k_center_greedy(LINE, 3).tolist() == [3, 0, 5]
    assert coverage_radius(LINE, np.array([3, 0, 5])) == 2.0


def test_k_center_is_within_twice_the_optimum() -> None:
    points = np.random.default_rng(0).integers(0, 256, (12, 2)).astype(np.float64)
    from itertools import combinations

    best = min(coverage_radius(points, np.array(chosen)) for chosen in combinations(range(12), 3))
    assert coverage_radius(points, k_center_greedy(points, 3)) <= 2 * best


@pytest.mark.parametrize("strategy", list(Selection))
def test_every_strategy_picks_distinct_rows_and_the_same_ones_again(strategy: Selection) -> None:
    labels = np.arange(30) % 3
    embedding = np.zeros((30, 4))  # all equal: the worst case for distinctness
    chosen = select(strategy, 30, labels, embedding, seed=7)
    assert sorted(chosen.tolist()) == list(range(30))
    assert chosen.tolist() == select(strategy, 30, labels, embedding, seed=7).tolist()


def test_stratified_keeps_the_proportions() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    chosen = select(Selection.stratified, 20, labels, np.zeros((100, 1)), seed=0)
    assert np.bincount(labels[chosen]).tolist() == [12, 6, 2]


def test_random_depends_on_the_seed() -> None:
    labels, embedding = np.zeros(100, np.int64), np.zeros((100, 1))
    assert (
        select(Selection.random, 10, labels, embedding, 0).tolist()
        != select(Selection.random, 10, labels, embedding, 1).tolist()
    )


def test_stratified_without_labels_is_refused() -> None:
    with pytest.raises(DataError, match=r"stratified needs labels .*choose coverage or random"):
        select(Selection.stratified, 2, np.full(5, -1), np.zeros((5, 1)), 0)


def test_every_stretch_of_interleaved_rows_is_proportional() -> None:
    labels = np.repeat([0, 1], [30, 10])
    ordered = labels[interleave(labels)]
    for start in range(0, 40, 8):
        assert np.bincount(ordered[start : start + 8], minlength=2).tolist() == [6, 2]


def test_a_thumbnail_is_the_mean_of_blocks() -> None:
    pixels = np.zeros((16, 16, 1), np.uint8)
    pixels[:2, :2] = 100
    pixels[0, 2] = 3
    assert thumbnail(pixels)[:2].tolist() == [100.0, 0.0]  # 3 / 4 is rounded down
    assert thumbnail(np.full((3, 5, 3), 9, np.uint8)).tolist() == [9.0] * (3 * 5 * 3)
