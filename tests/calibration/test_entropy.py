"""The entropy threshold against a second implementation, written from the slides alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from enginewright.calibration.entropy import entropy_range


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", ["normal", "relu", "laplace with an outlier", "uniform"])
def test_the_entropy_threshold_is_that_of_a_plain_reading_of_the_paper(seed: int, shape: str) -> None:
    random = np.random.default_rng(seed)
    values = {
        "normal": random.normal(size=20000),
        "relu": np.maximum(random.normal(size=20000), 0),
        "laplace with an outlier": np.append(random.laplace(size=20000), 40.0),
        "uniform": random.uniform(-1, 1, size=20000),
    }[shape]
    counts, edges = np.histogram(np.abs(values), bins=512)
    found = entropy_range(counts, edges.astype(np.float32))
    assert found == pytest.approx(_plain_entropy_range(list(counts), list(edges)))
    if shape.endswith("outlier"):
        assert found < 20
    if shape == "uniform":
        assert found > 0.95


def test_a_background_of_one_value_does_not_clip_the_rest() -> None:
    random = np.random.default_rng(0)
    values = np.append(np.full(80000, -0.42), random.uniform(-0.42, 2.8, 20000))
    counts, edges = np.histogram(np.abs(values), bins=2048)
    assert entropy_range(counts, edges.astype(np.float32)) > 2.7


def _plain_entropy_range(counts: list[int], edges: list[float]) -> float:
    """Loops over Python lists, written from the slides alone."""
    within = [width for width in range(len(counts) + 1) if sum(counts[:width]) >= 0.999 * sum(counts)]
    counts = [counts[1], *counts[1:]]
    divergences = {}
    for width in range(max(128, min(within)), len(counts) + 1):
        reference = [*counts[: width - 1], counts[width - 1] + sum(counts[width:])]
        quantized = [0.0] * width
        for level in range(128):
            bins = [index for index in range(width) if index * 128 // width == level and counts[index]]
            for index in bins:
                quantized[index] = sum(counts[other] for other in bins) / len(bins)
        p_sum, q_sum = sum(reference), sum(quantized)
        terms = [(p / p_sum, q / q_sum) for p, q in zip(reference, quantized, strict=True) if p]
        divergences[width] = math.inf if any(q == 0 for _, q in terms) else sum(p * math.log(p / q) for p, q in terms)
    return edges[min(divergences, key=lambda width: divergences[width])]
