"""Paired statistics against published values and independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from enginewright.statistics import (
    Lowest,
    PairedCounts,
    Resampled,
    Shares,
    compare,
    mcnemar_p,
    proportion,
    resampled,
    unseen,
)

# T. Tango's interval of the difference and N.-S. Tang's of the ratio, as the tests of the R package contingencytables
# have them, which goes with M. Fagerland, S. Lydersen, P. Laake, "Statistical Analysis of Contingency Tables", 2017:
# complete response (Cavo 2012), airway (Bentur 2009).
CAVO, BENTUR = PairedCounts(59, 6, 16, 80), PairedCounts(1, 1, 7, 12)


def test_interval_of_the_difference_equals_published_values() -> None:
    assert CAVO.difference().interval(0.95) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert BENTUR.difference().interval(0.95) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_a_ratio_beyond_the_published_limits_is_excluded_and_one_within_is_not() -> None:
    """The limits of the ratio of paired proportions, 0.7476 and 0.9876, are where the interval of p1 - r p2 leaves
    0.
    """
    assert CAVO.difference(0.7475).interval(0.95)[0] > 0 > CAVO.difference(0.7477).interval(0.95)[0]
    assert CAVO.difference(0.9877).interval(0.95)[1] < 0 < CAVO.difference(0.9875).interval(0.95)[1]


@given(
    st.lists(st.integers(0, 300), min_size=4, max_size=4).filter(any),
    st.sampled_from([0.8, 0.95, 0.99]),
    st.sampled_from([0.0, 0.9, 1.0]),
)
def test_interval_holds_the_difference_and_turns_round_with_it(
    cells: list[int], confidence: float, ratio: float
) -> None:
    found = PairedCounts(*cells).difference(ratio)
    low, high = found.interval(confidence)
    assert -ratio - 1e-9 <= low <= found.value + 1e-9
    assert found.value - 1e-9 <= high <= 1 + 1e-9
    turned = Shares(tuple(-value for value in found.values), found.counts).interval(confidence)
    assert turned == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("images", [1, 3, 20, 1000])
@pytest.mark.parametrize("right", [0.0, 0.5, 1.0], ids=["never right", "half right", "always right"])
def test_engines_that_never_differ_leave_room_for_the_images_that_were_not_seen(images: int, right: float) -> None:
    """Wherever both are right: the width is that of 0 of n, and not less because FP32 is often right or often wrong."""
    both = round(right * images)
    low, high = PairedCounts(both, 0, 0, images - both).difference().interval(0.95)
    room = proportion(0, images).interval(0.95)[1]
    assert (low, high) == pytest.approx((-room, room), abs=1e-9)
    assert room == pytest.approx(unseen(0.95, images))


@pytest.mark.parametrize("lost", [0.0005, 0.001, 0.002, 0.004, 0.01, 0.05])
@pytest.mark.parametrize("images", [100, 300, 1000])
def test_a_loss_is_excluded_no_oftener_than_the_confidence_allows(lost: float, images: int) -> None:
    """An engine that loses this share and gains none: how often the lower limit lies above its true loss, summed over
    what can be seen.
    """
    losses = np.arange(images + 1)
    share = binom.pmf(losses, images, lost)
    likely = [int(count) for count in losses[share > 1e-9]]
    excluded = [
        PairedCounts(images // 2 - count, 0, count, images - images // 2).difference().interval(0.95)[0] > -lost
        for count in likely
        if count <= images // 2
    ]
    assert sum(share[count] for count, wrong in zip(likely, excluded) if wrong) <= 0.03


@pytest.mark.slow
def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """10 % of the images are lost, 4 % gained; 500 draws of 200 images."""
    draws = np.random.default_rng(0).multinomial(200, [0.80, 0.04, 0.10, 0.06], size=500)
    intervals = [PairedCounts(*(int(cell) for cell in draw)).difference().interval(0.95) for draw in draws]
    covered = np.mean([low <= 0.04 - 0.10 <= high for low, high in intervals])
    assert 0.925 <= covered <= 0.985


def test_the_interval_of_so_many_images_like_these() -> None:
    few, many = PairedCounts(57, 1, 2, 40).difference(0.99), PairedCounts(570, 10, 20, 400).difference(0.99)
    assert few.interval(0.95, 1000) == pytest.approx(many.interval(0.95))


def test_resampled_equal_answers_leave_room_and_one_image_leaves_everything_open() -> None:
    found = resampled(lambda times: times.sum(axis=1) * 0.0, 20, -1.0, 1.0)
    assert found.interval(0.95) == pytest.approx((-unseen(0.95, 20), unseen(0.95, 20)))
    assert resampled(lambda times: times.sum(axis=1) * 0.0, 1, -1.0, 1.0).interval(0.95) == (-1.0, 1.0)
    narrow = Resampled(0.5, 10_000, np.linspace(0.4, 0.6, 2001), 0.0, 1.0)
    assert narrow.interval(0.95) == pytest.approx((0.405, 0.595), abs=1e-6)
    assert narrow.interval(0.95, 40_000) == pytest.approx((0.4525, 0.5475), abs=1e-6)  # twice as narrow
    assert narrow.interval(0.95, 4)[0] == 0.0  # no further than a value can lie


def test_the_lowest_of_several_has_the_lowest_limits() -> None:
    found = Lowest([proportion(90, 100), proportion(99, 100)])
    assert found.value == pytest.approx(0.9)
    assert found.interval(0.95) == pytest.approx(proportion(90, 100).interval(0.95))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (0, 5), (3, 3), (1, 7), (12, 2)])
def test_mcnemar_is_the_two_sided_binomial_tail(only_first: int, only_second: int) -> None:
    differing = only_first + only_second
    tail = sum(float(binom.pmf(k, differing, 0.5)) for k in range(min(only_first, only_second) + 1))
    assert mcnemar_p(PairedCounts(10, only_first, only_second, 3)) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(("right", "images"), [(1, 7), (81, 263), (101, 128), (999, 1000)])
def test_limits_of_a_proportion_are_where_the_score_test_rejects(right: int, images: int) -> None:
    """Wilson's interval holds the proportions that the score test, with the variance under the hypothesis, does not
    reject.
    """

    def p_value(share: float) -> float:
        return float(2 * norm.sf(abs(right / images - share) / math.sqrt(share * (1 - share) / images)))

    low, high = proportion(right, images).interval(0.95)
    assert low == pytest.approx(brentq(lambda share: p_value(share) - 0.05, 1e-9, right / images), abs=1e-9)
    assert high == pytest.approx(brentq(lambda share: p_value(share) - 0.05, right / images, 1 - 1e-9), abs=1e-9)


def test_interval_of_a_proportion_equals_published_values() -> None:
    """81 of 263 and 15 of 148: R. G. Newcombe, Statistics in Medicine 17, 1998, 857-872, table I, method 3."""
    assert proportion(81, 263).interval(0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert proportion(15, 148).interval(0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_compare_counts_gained_and_lost_images() -> None:
    engine = np.array([True, True, False, False, True])
    fp32 = np.array([True, False, True, True, True])
    found = compare(engine, fp32, 0.95)
    assert (found["images_gained"], found["images_lost"]) == (1, 2)
    assert found["top1_difference"] == pytest.approx(-0.2)
    assert math.isclose(found["mcnemar_p"], 1.0)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        PairedCounts(0, 0, 0, 0).difference()
