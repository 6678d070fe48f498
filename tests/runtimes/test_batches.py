"""What every engine refuses, and how a batch beyond the largest is split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enginewright.errors import EngineInputError
from enginewright.feeds import Array
from enginewright.interface import AxisRange, Interface, TensorSpec, up_to
from enginewright.runtimes.batches import check_feeds, in_batches, plain_inputs

IMAGE = TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28))
MASK = TensorSpec("mask", np.dtype(np.bool_), ("batch",))
ANCHORS = TensorSpec("anchors", np.dtype(np.float32), (6, 4))
SIZED = TensorSpec("sized", np.dtype(np.float32), ("batch", 3, "height", "width"))
AXES = {**up_to(8), "height": AxisRange(320, 640, 1280)}


def check(feeds: dict[str, Array], *specs: TensorSpec) -> int:
    return check_feeds(Interface(specs, ()), AXES, feeds)


def images(count: int) -> Array:
    return np.zeros((count, 1, 28, 28), np.float32)


def sized(height: int, width: int) -> dict[str, Array]:
    return {"sized": np.broadcast_to(np.float32(0), (2, 3, height, width))}


def test_feeds_that_fit_give_their_batch() -> None:
    assert check({"input": images(7)}, IMAGE) == 7
    assert check({"mask": np.ones(2, bool), "input": images(2)}, IMAGE, MASK) == 2


def test_an_input_without_a_batch_has_no_say_in_it() -> None:
    anchors = np.zeros((6, 4), np.float32)
    assert check({"anchors": anchors, "input": images(2)}, ANCHORS, IMAGE) == 2
    interface = Interface((ANCHORS, IMAGE), ())
    pieces = list(in_batches(interface, {"anchors": anchors, "input": images(3)}, 3, 2))
    assert [(len(piece["anchors"]), len(piece["input"]), rows) for piece, rows in pieces] == [(6, 2, 2), (6, 1, 1)]


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        pytest.param({"imput": images(1)}, "has no input 'imput'; did you mean 'input'?", id="name"),
        pytest.param({}, "the input 'input' float32 ['batch', 1, 28, 28] is missing", id="missing"),
        pytest.param(
            {"input": images(1).astype(np.float64)},
            "must be float32 and is float64; convert it with .astype",
            id="dtype",
        ),
        pytest.param(
            {"input": images(1)[0]}, "must have shape ['batch', 1, 28, 28] and has [1, 28, 28]", id="no-batch-axis"
        ),
        pytest.param({"input": np.zeros((1, 3, 28, 28), np.float32)}, "and has [1, 3, 28, 28]", id="channels"),
        pytest.param({"input": images(0)}, "the batch is empty", id="empty"),
    ],
)
def test_feeds_that_do_not_fit_are_named(feeds: dict[str, Array], text: str) -> None:
    with pytest.raises(EngineInputError) as fault:
        check(feeds, IMAGE)
    assert text in str(fault.value)


@pytest.mark.parametrize("height", [319, 1281])
def test_a_size_outside_the_range_of_its_axis_is_named_with_the_range(height: int) -> None:
    assert check(sized(320, 5), SIZED) == check(sized(1280, 5000), SIZED) == 2  # the width has no range
    with pytest.raises(EngineInputError) as fault:
        check(sized(height, 640), SIZED)
    assert str(fault.value) == (
        f"the axis 'height' of the input 'sized' is {height}, and the engine takes 320 to 1280; resize it, or build the"
        " engine again with another range"
    )


@pytest.mark.parametrize(
    ("other", "feed", "sentence"),
    [
        pytest.param(MASK, np.ones(3, bool), "'batch': it is 2 in 'sized' and 3 in 'mask'", id="batch"),
        pytest.param(
            TensorSpec("depth", np.dtype(np.float32), ("batch", "height")),
            np.zeros((2, 321), np.float32),
            "'height': it is 320 in 'sized' and 321 in 'depth'",
            id="height",
        ),
    ],
)
def test_inputs_must_agree_on_an_axis_of_one_name(other: TensorSpec, feed: Any, sentence: str) -> None:
    with pytest.raises(EngineInputError, match=f"the inputs disagree on the axis {sentence}; feed one size"):
        check({**sized(320, 320), other.name: feed}, SIZED, other)


@pytest.mark.parametrize(("batch", "limit", "sizes"), [(1, 4, [1]), (4, 4, [4]), (5, 4, [4, 1]), (9, 4, [4, 4, 1])])
def test_what_is_beyond_the_largest_batch_runs_in_several_goes(batch: int, limit: int, sizes: list[int]) -> None:
    feeds = {"input": np.arange(batch, dtype=np.float32), "mask": np.arange(batch) % 2 == 0}
    pieces = list(in_batches(Interface((IMAGE, MASK), ()), feeds, batch, limit))
    assert [rows for _, rows in pieces] == [len(piece["input"]) for piece, _ in pieces] == sizes
    for name, whole in feeds.items():
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece, _ in pieces]), whole)


@pytest.mark.parametrize(
    ("first", "shape"), [pytest.param("batch", (6, 3), id="dynamic"), pytest.param(2, (6, 3), id="fixed at 2")]
)
def test_arrays_for_several_batches_have_a_row_for_each_sample(first: int | str, shape: tuple[int, ...]) -> None:
    interface = Interface((TensorSpec("x", np.dtype(np.float32), (first, 3)),), ())
    assert plain_inputs(interface, up_to(8), 6)["x"].shape == shape
