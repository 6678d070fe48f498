"""What a stage says before it runs models, and how many it runs in a given time."""

from __future__ import annotations

from typing import Optional

import pytest

from enginewright.sensitivity.budget import LEAST, Budget, says
from enginewright.sensitivity.search import Limits, search


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("minutes", "each", "models"),
    [
        pytest.param(None, 1e6, 250, id="no bound"),
        pytest.param(10.0, 1.0, 250, id="more time than models"),
        pytest.param(2.0, 1.0, 120, id="as many as fit"),
        pytest.param(0.01, 60.0, LEAST, id="an analysis is three models at least"),
    ],
)
def test_as_many_models_as_fit(minutes: Optional[float], each: float, models: int) -> None:
    assert Budget("analyze_sensitivity", 250, minutes, Clock()).fitting(each) == models


def test_what_was_spent_is_taken_off() -> None:
    clock = Clock()
    budget = Budget("search_mixed", 60, 1.0, clock)
    assert budget.allows(30.0)
    clock.now = 40.0
    assert budget.fitting(4.0) == 5
    assert budget.allows(20.0)
    assert not budget.allows(20.1)


def test_the_time_is_said() -> None:
    said = Budget("analyze_sensitivity", 250).plan(50, 200, 2.0)
    assert said == "analyze_sensitivity: 50 models of 200 images, 2.0 s each: about 100 seconds"


def test_a_long_time_is_said_with_what_shortens_it() -> None:
    assert Budget("search_mixed", 60).plan(60, 500, 90.0, at_most=True) == (
        "search_mixed: up to 60 models of 500 images, 90.0 s each: about 90 minutes at most; search_mixed.minutes or"
        " search_mixed.evaluations bounds it, and fewer data.sensitivity_images shorten it"
    )
    assert "about 15 minutes at most" in Budget("search_mixed", 60, 15.0).plan(60, 500, 90.0, at_most=True)
    assert "about 15 minutes at most;" not in Budget("search_mixed", 60, 15.0).plan(60, 500, 90.0, at_most=True)


def test_times_are_said_in_words() -> None:
    said = [says(minutes) for minutes in (0.5, 3.2, 119.0, 150.0)]
    assert said == ["30 seconds", "3 minutes", "119 minutes", "2.5 hours"]


def test_a_search_that_is_out_of_time_keeps_the_best_so_far() -> None:
    """Each mixture takes a minute; of eight layers the last one is needed, and there are four minutes."""
    clock = Clock()
    budget = Budget("search_mixed", 60, 4.0, clock)
    layers = [(f"conv{index}",) for index in range(8)]

    def measure(kept: object) -> dict[str, float]:
        clock.now += 60.0
        return {"top1": float("conv3" in str(kept))}

    found = search(measure, lambda figures: figures["top1"] >= 1, layers, Limits(60, 8, lambda: budget.allows(60.0)))
    assert found.late
    assert found.exhausted
    assert len(found.trials) == 4
    assert found.holds
    assert found.chosen == tuple(f"conv{index}" for index in range(4))


def test_all_layers_in_int8_are_measured_whatever_the_time() -> None:
    found = search(lambda _: {"top1": 0.0}, lambda _: False, [("conv0",)], Limits(60, 8, lambda: False))
    assert [trial.step for trial in found.trials] == ["int8"]
    assert found.late
