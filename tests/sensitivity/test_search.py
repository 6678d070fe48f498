"""The search over mixtures: fewest layers, within its budget, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from enginewright.config import Sparing
from enginewright.sensitivity.analysis import blocks, ranked, traffic_of
from enginewright.sensitivity.search import Limits, Search, most_kept, search, table_rows

LAYERS = [f"conv{index}" for index in range(20)]
RANKING = [(layer,) for layer in LAYERS]


def look(needed: set[str], evaluations: int = 100, most: int = 20) -> Search:
    """The gate holds as soon as every layer of `needed` is in float."""
    return search(
        lambda kept: {"top1": float(needed <= set(kept))},
        lambda figures: figures["top1"] >= 1,
        RANKING,
        Limits(evaluations, most),
    )


@given(st.sets(st.sampled_from(LAYERS)))
def test_exactly_the_layers_that_are_needed_stay_in_float(needed: set[str]) -> None:
    found = look(needed)
    assert found.holds
    assert set(found.chosen) == needed
    assert not found.exhausted


@given(st.sets(st.sampled_from(LAYERS), min_size=1), st.integers(1, 40))
def test_the_budget_is_kept_and_what_is_chosen_was_measured(needed: set[str], evaluations: int) -> None:
    found = look(needed, evaluations)
    assert len(found.trials) <= evaluations
    assert found.last.kept == found.chosen
    assert found.holds == found.last.holds
    if not found.exhausted:
        assert set(found.chosen) == needed


def test_a_limit_on_float_layers_is_kept_and_named_as_not_holding() -> None:
    found = look({"conv0", "conv15"}, most=10)
    assert not found.holds
    assert len(found.chosen) == 10
    assert {trial.holds for trial in found.trials} == {False}


@pytest.mark.parametrize(
    ("layers", "share", "most"),
    [(10, 0.8, 2), (50, 0.6, 20), (20, 0.55, 9), (10, 0.7, 3), (3, 0.5, 1), (16, 0.8, 3), (7, 1.0, 0), (7, 0.0, 7)],
)
def test_the_share_that_stays_in_int8_is_kept_to_the_layer(layers: int, share: float, most: int) -> None:
    assert most_kept(layers, share) == most


def test_nothing_may_stay_in_float() -> None:
    found = look({"conv0"}, most=0)
    assert (found.holds, found.chosen, len(found.trials)) == (False, (), 1)


def test_int8_that_passes_ends_the_search_at_once() -> None:
    found = look(set())
    assert (found.holds, found.chosen, len(found.trials)) == (True, (), 1)


def test_a_mixture_that_passes_with_more_noise_than_one_that_failed_is_not_trusted() -> None:
    """conv0 to conv3 are needed; without conv1 the gate holds too, by luck, with an SQNR that shows it."""
    needed = set(LAYERS[:4])

    def measure(kept: Sequence[str]) -> dict[str, float]:
        lucky = set(kept) == needed - {"conv1"}
        return {
            "top1": float(needed <= set(kept) or lucky),
            "sqnr_db": 10.0 + 3 * len(needed & set(kept)) - 5 * lucky,
        }

    found = search(measure, lambda figures: figures["top1"] >= 1, RANKING, Limits(100, 20))
    assert set(found.chosen) == needed
    lucky = next(trial for trial in found.trials if set(trial.kept) == needed - {"conv1"})
    assert (lucky.passes, lucky.holds) == (True, False)


def test_the_log_has_a_row_for_each_trial() -> None:
    rows = table_rows(look({"conv1"}), 20, "top1")
    assert [row["trial"] for row in rows] == list(range(1, len(rows) + 1))
    verdict = {"top1": 0.0, "sqnr_db": None, "verdict": None, "passes": False, "holds": False}
    assert rows[0] == {"trial": 1, "step": "int8", "float_layers": 0, "int8_share": 1.0, **verdict, "layers": ""}
    assert rows[-1]["step"] == "restore"
    assert rows[-1]["layers"] == "conv1"


@pytest.mark.parametrize(("evaluations", "size"), [(41, 1), (40, 2), (21, 2), (3, 20)])
def test_layers_go_together_in_blocks_where_the_budget_is_small(evaluations: int, size: int) -> None:
    found: Sequence[tuple[str, ...]] = blocks(LAYERS, evaluations)
    assert max(len(block) for block in found) == size
    assert [layer for block in found for layer in block] == LAYERS
    assert 1 + 2 * len(found) <= evaluations


def _ranking() -> pd.DataFrame:
    columns = {
        "layers": ["stem", "a + b", "fc"],
        "count": [1, 2, 1],
        "share_of_noise": [0.5, 0.4, 0.1],
        "share_of_traffic": [0.7, 0.29, 0.01],
    }
    return pd.DataFrame({"rank": [1, 2, 3], **columns})


def test_with_traffic_spared_what_moves_little_for_its_noise_comes_first() -> None:
    assert ranked(_ranking()) == ranked(_ranking(), Sparing.layers) == [("stem",), ("a", "b"), ("fc",)]
    assert ranked(_ranking(), Sparing.traffic) == [("fc",), ("a", "b"), ("stem",)]


def test_a_layer_that_moves_next_to_nothing_does_not_come_first_if_it_adds_next_to_no_noise() -> None:
    table = _ranking().assign(share_of_noise=[0.6, 0.399, 0.001], share_of_traffic=[0.71, 0.28999, 0.00001])
    assert ranked(table, Sparing.traffic)[0] == ("a", "b")


def test_a_blocks_traffic_is_shared_among_its_layers() -> None:
    assert traffic_of(_ranking(), ["stem", "b"]) == pytest.approx(0.7 + 0.145)
    assert traffic_of(_ranking(), []) == 0.0
