"""The knee of known curves."""

from __future__ import annotations

import pandas as pd
import pytest

from enginewright.benchmark.curve import knee


def curve(**rates: float) -> pd.DataFrame:
    return pd.DataFrame(
        [(int(name[1:]), rate) for name, rate in rates.items()], columns=["batch", "throughput_images_per_s"]
    )


@pytest.mark.parametrize(
    ("points", "at", "best"),
    [
        pytest.param(curve(b1=10, b2=20, b4=40, b8=80), 8, 8, id="still rising"),
        pytest.param(curve(b1=50, b2=80, b4=96, b8=100, b16=99), 4, 8, id="flattens"),
        pytest.param(curve(b16=99, b1=50, b8=100, b2=80, b4=94), 8, 8, id="in any order"),
        pytest.param(curve(b1=100, b2=90, b4=70), 1, 1, id="falls"),
        pytest.param(curve(b1=7), 1, 1, id="one batch"),
    ],
)
def test_the_knee_is_the_smallest_batch_with_95_percent_of_the_best(points: pd.DataFrame, at: int, best: int) -> None:
    found = knee(points)
    assert (found["knee_batch"], found["best_batch"]) == (at, best)
    assert found["knee_throughput_images_per_s"] >= 0.95 * found["best_throughput_images_per_s"]


def test_no_curve_has_no_knee() -> None:
    assert knee(pd.DataFrame()) == {}
