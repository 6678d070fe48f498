"""Paired statistics against published values and independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from enginewright.accuracy.statistics import PairedCounts, compare, mcnemar_p, paired_interval, proportion_interval


@pytest.mark.parametrize(
    ("counts", "low", "high", "digits"),
    [
        # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial proportions", Statistics in Medicine 33, 2014
        pytest.param((1, 1, 7, 12), -0.507, -0.026, 3, id="airway hyper-responsiveness (Bentur 2009)"),
        # the tests of the R package contingencytables, which goes with "Statistical Analysis of Contingency Tables" by the same authors
        pytest.param((59, 6, 16, 80), -0.1186, -0.0046, 4, id="complete response (Cavo 2012)"),
    ],
)
def test_interval_equals_published_values(counts: tuple[int, int, int, int], low: float, high: float, digits: int) -> None:
    found = paired_interval(PairedCounts(*counts), 0.95)
    assert found == pytest.approx((low, high), abs=0.5 * 10**-digits + 1e-12)


@given(st.lists(st.integers(0, 300), min_size=4, max_size=4).filter(any), st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_holds_the_difference_and_turns_round_with_it(cells: list[int], confidence: float) -> None:
    counts = PairedCounts(*cells)
    difference = (counts.only_first - counts.only_second) / counts.images
    low, high = paired_interval(counts, confidence)
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    swapped = paired_interval(PairedCounts(cells[0], cells[2], cells[1], cells[3]), confidence)
    assert swapped == pytest.approx((-high, -low), abs=1e-12)


def test_interval_keeps_a_width_where_the_engines_never_differ() -> None:
    low, high = paired_interval(PairedCounts(990, 0, 0, 10), 0.95)
    assert low < 0 < high


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """10 % of the images are lost, 4 % gained; 500 draws of 200 images."""
    draws = np.random.default_rng(0).multinomial(200, [0.80, 0.04, 0.10, 0.06], size=500)
    intervals = [paired_interval(PairedCounts(*(int(cell) for cell in draw)), 0.95) for draw in draws]
    covered = np.mean([low <= 0.04 - 0.10 <= high for low, high in intervals])
    assert 0.925 <= covered <= 0.985


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (0, 5), (3, 3), (1, 7), (12, 2)])
def test_mcnemar_is_the_two_sided_binomial_tail(only_first: int, only_second: int) -> None:
    differing = only_first + only_second
    tail = sum(float(binom.pmf(k, differing, 0.5)) for k in range(min(only_first, only_second) + 1))
    assert mcnemar_p(PairedCounts(10, only_first, only_second, 3)) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(("right", "images"), [(1, 7), (81, 263), (101, 128), (999, 1000)])
def test_limits_of_a_proportion_are_where_the_score_test_rejects(right: int, images: int) -> None:
    """Wilson's interval holds the proportions that the score test, with the variance under the hypothesis, does not reject."""

    def p_value(share: float) -> float:
        return float(2 * norm.sf(abs(right / images - share) / math.sqrt(share * (1 - share) / images)))

    low, high = proportion_interval(right, images, 0.95)
    assert low == pytest.approx(brentq(lambda share: p_value(share) - 0.05, 1e-9, right / images), abs=1e-9)
    assert high == pytest.approx(brentq(lambda share: p_value(share) - 0.05, right / images, 1 - 1e-9), abs=1e-9)


def test_interval_of_a_proportion_equals_published_values() -> None:
    """81 of 263 and 15 of 148: R. G. Newcombe, Statistics in Medicine 17, 1998, 857-872, table I, method 3."""
    assert proportion_interval(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert proportion_interval(15, 148, 0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_compare_counts_gained_and_lost_images() -> None:
    engine = np.array([True, True, False, False, True])
    fp32 = np.array([True, False, True, True, True])
    found = compare(engine, fp32, 0.95)
    assert (found["images_gained"], found["images_lost"]) == (1, 2)
    assert found["top1_difference"] == pytest.approx(-0.2)
    assert math.isclose(found["mcnemar_p"], 1.0)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        paired_interval(PairedCounts(0, 0, 0, 0), 0.95)
