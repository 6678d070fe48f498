"""What every engine refuses, and how a batch beyond the profile is split."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.errors import EngineInputError
from enginewright.feeds import Array
from enginewright.runtimes.base import TensorSpec, check_feeds, in_batches

IMAGE = TensorSpec("input", np.dtype(np.float32), (None, 1, 28, 28))
MASK = TensorSpec("mask", np.dtype(np.bool_), (None,))


def images(count: int) -> Array:
    return np.zeros((count, 1, 28, 28), np.float32)


def test_feeds_that_fit_give_their_batch() -> None:
    assert check_feeds([IMAGE], {"input": images(7)}) == 7
    assert check_feeds([IMAGE, MASK], {"mask": np.ones(2, bool), "input": images(2)}) == 2


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        pytest.param({"imput": images(1)}, "has no input 'imput'; did you mean 'input'?", id="name"),
        pytest.param({}, "the input 'input' float32 [None, 1, 28, 28] is missing", id="missing"),
        pytest.param(
            {"input": images(1).astype(np.float64)},
            "must be float32 and is float64; convert it with .astype",
            id="dtype",
        ),
        pytest.param(
            {"input": images(1)[0]}, "must have shape ['N', 1, 28, 28] and has [1, 28, 28]", id="no-batch-axis"
        ),
        pytest.param({"input": np.zeros((1, 3, 28, 28), np.float32)}, "and has [1, 3, 28, 28]", id="channels"),
        pytest.param({"input": images(0)}, "the batch is empty", id="empty"),
    ],
)
def test_feeds_that_do_not_fit_are_named(feeds: dict[str, Array], text: str) -> None:
    with pytest.raises(EngineInputError) as fault:
        check_feeds([IMAGE], feeds)
    assert text in str(fault.value)


def test_inputs_must_agree_on_the_batch() -> None:
    with pytest.raises(EngineInputError, match="disagree on the batch"):
        check_feeds([IMAGE, MASK], {"input": images(2), "mask": np.ones(3, bool)})


@pytest.mark.parametrize(("batch", "limit", "sizes"), [(1, 4, [1]), (4, 4, [4]), (5, 4, [4, 1]), (9, 4, [4, 4, 1])])
def test_what_is_beyond_the_profile_runs_in_several_goes(batch: int, limit: int, sizes: list[int]) -> None:
    feeds = {"input": np.arange(batch, dtype=np.float32), "mask": np.arange(batch) % 2 == 0}
    pieces = list(in_batches(feeds, batch, limit))
    assert [len(piece["input"]) for piece in pieces] == sizes
    for name, whole in feeds.items():
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), whole)
