"""Samples that are arrays: each sentence has the name of the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enginewright.data.named import named_arrays, named_sample, require_inputs
from enginewright.errors import DataError
from enginewright.feeds import Array
from enginewright.interface import TensorSpec

IDS = TensorSpec("input_ids", np.dtype(np.int64), ("batch", "tokens"))
PIXELS = TensorSpec("pixels", np.dtype(np.float32), ("batch", 3, "height", 8))
GOOD: dict[str, Array] = {"input_ids": np.zeros(5, np.int64), "pixels": np.zeros((3, 7, 8), np.float32)}


def test_what_fits_is_taken_in_the_byte_order_of_the_machine() -> None:
    require_inputs("a.npz", GOOD, [IDS, PIXELS])
    found = named_arrays("a.npz", {"x": np.arange(3, dtype=">f4")})
    assert found["x"].dtype == np.dtype("=f4")
    np.testing.assert_array_equal(found["x"], [0, 1, 2])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param({}, "a.npz holds no array; give it one for each input of the model", id="nothing"),
        pytest.param({"x": [1, 2]}, "'x' of a.npz is a list; give it as a NumPy array", id="a list"),
        pytest.param({"x": np.array([None])}, "'x' of a.npz holds Python objects; give it as", id="objects"),
        pytest.param({"x": np.array(["a"])}, "'x' of a.npz is <U1; convert it to one of float32,", id="text"),
        pytest.param({"x": np.zeros(2, complex)}, "'x' of a.npz is complex128; convert", id="complex"),
        pytest.param({"x": np.zeros((0, 3))}, r"'x' of a.npz is empty, \[0, 3\]; give it a value", id="empty"),
        pytest.param({"x": np.array([1, np.nan])}, "'x' of a.npz holds NaN, which no engine", id="NaN"),
        pytest.param({"x": np.array([np.inf])}, "'x' of a.npz holds infinity, which", id="infinity"),
    ],
)
def test_arrays_that_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        named_arrays("a.npz", given)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(
            {"pixels": None}, "a.npz has no key 'pixels', which is an input of the model; it has", id="missing"
        ),
        pytest.param(
            {"pixel": np.zeros(1)},
            r"a.npz has the key 'pixel', which is no input of the model; did you mean 'pixels'",
            id="key",
        ),
        pytest.param(
            {"input_ids": np.zeros(5, np.int32)},
            r"'input_ids' of a.npz is int32 \[5\], and the input takes int64 \[tokens\] of each sample; convert it",
            id="dtype",
        ),
        pytest.param(
            {"input_ids": np.zeros((1, 5), np.int64)},
            r"int64 \[1, 5\], and the input takes int64 \[tokens\] of each sample \(without the batch axis\); reshape",
            id="rank",
        ),
        pytest.param(
            {"pixels": np.zeros((1, 7, 8), np.float32)},
            r"float32 \[1, 7, 8\], and the input takes float32 \[3, height, 8\] of each sample; bring it to that size",
            id="size",
        ),
    ],
)
def test_samples_that_are_not_what_the_inputs_take(change: dict[str, Any], sentence: str) -> None:
    arrays = {key: its for key, its in {**GOOD, **change}.items() if its is not None}
    with pytest.raises(DataError, match=sentence):
        require_inputs("a.npz", arrays, [IDS, PIXELS])


@pytest.mark.parametrize(
    ("target", "label", "array"),
    [
        pytest.param(None, -1, None, id="none"),
        pytest.param(2, 2, None, id="an integer"),
        pytest.param(np.array(1, np.uint8), 1, None, id="a scalar"),
        pytest.param(0.5, -1, np.float64(0.5), id="a number"),
        pytest.param(np.array([1]), -1, np.array([1]), id="an array"),
    ],
)
def test_an_integer_is_a_class_and_all_else_a_target(target: Any, label: int, array: Any) -> None:
    found = named_sample("a", lambda: {}, target, ())
    assert found.label == label
    assert (found.target is None) is (array is None)
    if found.target is not None:
        np.testing.assert_array_equal(found.target(), array)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        pytest.param(3, "a has the target 3, which is no class: data.classes names 3, from 0 on", id="beyond"),
        pytest.param(-1, "a has the target -1, which is no class", id="negative"),
        pytest.param("cat", "'target' of a is a str; give it as a NumPy array", id="text"),
    ],
)
def test_targets_that_are_refused(target: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        named_sample("a", lambda: {}, target, tuple("xyz"))
