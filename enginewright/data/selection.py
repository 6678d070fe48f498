"""Which images of the calibration pool become calibration images. Every strategy is deterministic, on any machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enginewright.config import Selection
from enginewright.data.preprocessing import Pixels
from enginewright.errors import DataError

Rows = npt.NDArray[np.int64]
Embedding = npt.NDArray[np.float64]
GRID = 8  # the embedding is a thumbnail of GRID x GRID


def select(strategy: Selection, count: int, labels: Rows, embedding: Embedding, seed: int) -> Rows:
    """Pick `count` rows of the pool.

    Args:
        strategy: random, stratified (each class as often as in the pool), or coverage (k-center greedy).
        count: how many, at most the size of the pool.
        labels: int64 [N], -1 where unlabelled.
        embedding: float64 [N, D] as `thumbnail` makes it, whole numbers.
        seed: of the permutation.

    Returns:
        int64 [count], distinct rows in the order in which they were picked.

    Raises:
        DataError: stratified without labels.
    """
    if strategy is Selection.coverage:
        return k_center_greedy(embedding, count)
    order = np.random.default_rng(seed).permutation(len(labels))
    if strategy is Selection.stratified:
        if labels.max(initial=-1) < 0:
            raise DataError(
                "data.selection stratified needs labels and the images have none; choose coverage or random"
            )
        order = order[interleave(labels[order])]
    return order[:count]


def interleave(labels: Rows) -> Rows:
    """Reorder rows so that every stretch of them holds the classes in their overall proportion, within one image a
    class.

    The j-th of the n rows of a class goes to place (j + 1/2) / n of the whole; equal places keep their order.
    """
    rank = np.zeros(len(labels), np.float64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(rank, kind="stable")


def thumbnail(pixels: Pixels) -> Embedding:
    """Mean of each of GRID x GRID blocks and channel, rounded down: float64 [GRID * GRID * C] from uint8 [H, W, C].

    Whole numbers up to 255 keep every distance below exact in float64, so no BLAS and no processor can change a
    selection.
    """
    rows, columns = (np.linspace(0, size, min(GRID, size) + 1).astype(int) for size in pixels.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.int64), rows[:-1], axis=0), columns[:-1], axis=1)
    areas = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
    means: Embedding = (sums // areas).astype(np.float64).ravel()
    return means


def k_center_greedy(embedding: Embedding, count: int) -> Rows:
    """Pick centres so that the farthest row is as near to one as a greedy choice can have it, at most twice the
    optimum.

    Source: T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38
    (1985). Starts with the row nearest the mean; of equally far rows, the first is taken.
    """
    squares = np.einsum("ij,ij->i", embedding, embedding)
    chosen = np.empty(count, np.int64)
    # n times the distance to the mean, in whole numbers: |n x - sum|^2 up to a constant
    chosen[0] = np.argmin(len(embedding) * squares - 2 * (embedding @ embedding.sum(axis=0)))
    nearest = _squared_distances(embedding, squares, chosen[0])
    for index in range(1, count):
        nearest[chosen[:index]] = -1  # a row is picked once, even where all that is left lies on a centre
        chosen[index] = np.argmax(nearest)
        nearest = np.minimum(nearest, _squared_distances(embedding, squares, chosen[index]))
    return chosen


def coverage_radius(embedding: Embedding, chosen: Rows) -> float:
    """Largest distance from a row of the pool to the nearest chosen one, as root mean square over the thumbnail, in
    gray levels (0 to 255).
    """
    squares = np.einsum("ij,ij->i", embedding, embedding)
    nearest = np.full(len(embedding), np.inf)
    for row in chosen:
        nearest = np.minimum(nearest, _squared_distances(embedding, squares, row))
    return float(np.sqrt(nearest.max(initial=0.0) / embedding.shape[1]))


def _squared_distances(embedding: Embedding, squares: Embedding, row: int) -> Embedding:
    distances: Embedding = squares + squares[row] - 2 * (embedding @ embedding[row])
    return distances
