"""Two sets of values compared, on numbers whose answer is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from scipy.spatial.distance import jensenshannon

from enginewright import drift
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.ranges import TensorRange
from enginewright.config import CheckDrift
from enginewright.views.drift import show_table
from enginewright.views.metrics import of_drift

RANGE = 4.0


def seen(*values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> TensorRange:
    found = TensorRange(RANGE)
    for batch in values:
        found.add(batch.astype(np.float32))
    return found


def normal(seed: int, count: int = 20000, scale: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(scale=scale, size=count)


def cache(*tensors: str) -> CalibrationCache:
    return CalibrationCache(Header.minmax, dict.fromkeys(tensors, RANGE / 127))


def test_the_distance_is_scipys_on_a_histogram_of_numpys() -> None:
    one, other = np.abs(normal(0)), np.abs(normal(1, scale=2))
    step = RANGE / 254
    edges = [0, *(step * 2 ** (index / 2) for index in range(25)), np.inf]
    assert edges[-2] > 16 * RANGE > edges[-4]
    expected = jensenshannon(np.histogram(one, edges)[0], np.histogram(other, edges)[0], base=2)
    assert drift.histogram_distance(seen(one), seen(other), RANGE) == pytest.approx(
        expected, abs=0.005
    )  # edges lie at 1/128 of their value


def test_equal_values_are_at_no_distance_and_disjoint_ones_at_one() -> None:
    assert drift.histogram_distance(seen(normal(0)), seen(normal(0)), RANGE) == 0
    assert drift.histogram_distance(seen(np.full(10, 0.1)), seen(np.full(20, 3.0)), RANGE) == pytest.approx(1)


@pytest.mark.parametrize("count", [2000, 5000, 50000])
def test_another_sample_of_the_same_values_is_no_drift(count: int) -> None:
    for seed in range(20):
        table = drift.compare(
            cache("a"), {"a": seen(normal(seed, count))}, {"a": seen(normal(seed + 100, 2 * count))}, CheckDrift()
        )
        assert not table["drifted"].any(), table["why"][0]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        pytest.param(
            np.append(normal(1), np.full(300, 5.0)),
            "1.48% of validation's values lie beyond the INT8 range, 0.0",
            id="beyond the range",
        ),
        pytest.param(normal(1, scale=0.6), "its 99.99th percentile is 0.", id="narrower"),
        pytest.param(np.append(normal(1), np.zeros(20000)), "its histogram is 0.", id="half of them zero"),
    ],
)
def test_what_exceeds_its_threshold_is_said(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], why: str
) -> None:
    table = drift.compare(cache("a"), {"a": seen(normal(0))}, {"a": seen(values)}, CheckDrift())
    assert table["drifted"][0]
    assert why in table["why"][0]


def test_thresholds_are_settings() -> None:
    lenient = CheckDrift(saturation_excess=1.0, percentile_ratio=100.0, distance=1.0)
    table = drift.compare(cache("a"), {"a": seen(normal(0))}, {"a": seen(normal(1, scale=3))}, lenient)
    assert not table["drifted"].any()
    assert drift.compare(cache("a"), {"a": seen(normal(0))}, {"a": seen(normal(1, scale=3))}, CheckDrift())[
        "drifted"
    ].all()


def test_the_worst_comes_first_and_is_named_and_unseen_tensors_are_left_out() -> None:
    calibration = {name: seen(normal(0)) for name in ("calm", "wild", "wilder", "alone")}
    validation = {
        "calm": seen(normal(1)),
        "wild": seen(normal(1, scale=2)),
        "wilder": seen(normal(1, scale=9)),
        "empty": seen(),
    }
    table = drift.compare(cache("calm", "wild", "wilder", "alone", "empty"), calibration, validation, CheckDrift())
    assert list(table["tensor"]) == ["wilder", "wild", "calm"]
    assert of_drift(drift.result_of(table, {}))["drifted_tensors"] == 2
    assert drift.verdict(table).startswith(
        "the calibration images are not like the validation images in 2 of 3 tensors, worst in wilder: "
    )
    printed = io.StringIO()
    show_table(table, Console(file=printed, width=200))
    assert "calm" not in printed.getvalue()


def test_tensors_of_zeros_and_no_tensors_at_all() -> None:
    table = drift.compare(cache("zero"), {"zero": seen(np.zeros(100))}, {"zero": seen(np.zeros(50))}, CheckDrift())
    assert (table["severity"][0], table["drifted"][0]) == (0, False)
    nothing = drift.compare(cache(), {}, {}, CheckDrift())
    assert of_drift(drift.result_of(nothing, {})) == {"observed": True, "tensors": 0, "drifted_tensors": 0}
    assert "in all 0 tensors" in drift.verdict(nothing)
