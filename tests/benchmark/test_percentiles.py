"""Order statistics against NumPy and against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enginewright.benchmark.percentiles import PER_MILLE, enough, latency_metrics, percentiles, rank, too_few


@pytest.mark.parametrize("count", [1000, 1001, 1999, 12345])
@pytest.mark.parametrize("draw", ["exponential", "lognormal", "uniform"])
def test_percentiles_equal_numpys_inverted_cdf(draw: str, count: int) -> None:
    values = getattr(np.random.default_rng(count), draw)(size=count)
    quantiles = np.quantile(values, [per_mille / 1000 for per_mille in PER_MILLE.values()], method="inverted_cdf")
    assert list(percentiles(values).values()) == quantiles.tolist()


def test_exponential_latencies_have_the_quantiles_of_their_distribution() -> None:
    values = np.random.default_rng(0).exponential(size=200_000)
    found = percentiles(values)
    for name, per_mille in PER_MILLE.items():
        assert found[name] == pytest.approx(-np.log(1 - per_mille / 1000), rel=0.05)


@given(st.integers(1, 5000), st.integers(1, 999))
def test_rank_is_the_smallest_value_that_enough_do_not_exceed(count: int, per_mille: int) -> None:
    found = rank(count, per_mille)
    assert 0 <= found < count
    assert 1000 * (found + 1) >= per_mille * count  # so many values are at most this one
    assert found == 0 or 1000 * found < per_mille * count


@pytest.mark.parametrize(
    ("count", "missing"), [(999, "p99.9 (1000)"), (99, "p99 (100), p99.9 (1000)"), (1, "p50 (2), p90 (10)")]
)
def test_too_few_samples_are_said_not_interpolated(count: int, missing: str) -> None:
    assert missing in too_few(count)
    assert set(percentiles(np.ones(count))) == {
        name for name, per_mille in PER_MILLE.items() if enough(count, per_mille)
    }


def test_no_outlier_is_dropped() -> None:
    values = np.full(1000, 1e-3)
    values[500] = 1.0
    found = latency_metrics(values)
    assert found["latency_ms_max"] == 1000.0
    assert found["latency_ms_mean"] == pytest.approx(1.999)
    assert found["latency_ms_p99_9"] == 1.0


def test_enough_samples_leave_nothing_to_say() -> None:
    assert too_few(1000) == ""
