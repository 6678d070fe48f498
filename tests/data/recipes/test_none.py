"""Arrays that go to the inputs of their names."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.config import Preprocessing
from enginewright.data.recipes import feeds_of, recipe_of
from enginewright.data.recipes.none import AsItIs
from enginewright.data.samples import Sample
from enginewright.errors import DataError, EngineInputError
from enginewright.interface import TensorSpec

SETTINGS = Preprocessing(recipe="none")
ARRAYS = {
    "ids": np.array([3, 1, 2], np.int64),
    "mask": np.array([True, False, True]),
    "values": np.array([[0.5, 0.25]], np.float32),
    "pixels": np.arange(4, dtype=np.uint8),
}


def test_they_are_stored_as_they_are_and_lie_in_no_image() -> None:
    stored, geometry = AsItIs(SETTINGS).store(Sample("a.npz", 0, lambda: ARRAYS))
    assert geometry is None
    assert {name: array.dtype for name, array in stored.items()} == {name: own.dtype for name, own in ARRAYS.items()}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(stored[name], array)


def test_each_input_takes_the_array_of_its_name() -> None:
    inputs = [
        TensorSpec("mask", np.dtype(bool), ("batch", 3)),
        TensorSpec("ids", np.dtype(np.int64), ("batch", 3)),
        TensorSpec("pixels", np.dtype(np.uint8), ("batch", 4)),
        TensorSpec("values", np.dtype(np.float16), ("batch", 1, 2)),
    ]
    feeds, geometries = feeds_of([ARRAYS, ARRAYS], SETTINGS, inputs)
    assert not geometries
    assert {name: (array.dtype, array.shape) for name, array in feeds.items()} == {
        spec.name: (spec.dtype, (2, *spec.shape[1:])) for spec in inputs
    }
    np.testing.assert_array_equal(feeds_of(ARRAYS, SETTINGS, inputs)[0]["ids"], [[3, 1, 2]])


@pytest.mark.parametrize(("name", "dtype"), [("ids", np.float32), ("mask", np.int64), ("values", np.int64)])
def test_one_kind_of_number_is_not_taken_for_another(name: str, dtype: type[np.generic]) -> None:
    with pytest.raises(EngineInputError, match=f"^the input '{name}' "):
        feeds_of(ARRAYS, SETTINGS, [TensorSpec(name, np.dtype(dtype), ("batch", 3))])


def test_an_input_without_an_array_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError) as fault:
        AsItIs(SETTINGS).feeds({"ids": np.zeros((1, 3)), "mask": np.zeros((1, 3))}, ["ids", "masks"])
    assert str(fault.value) == (
        "the model takes 'masks', and the samples hold ids, mask; name the arrays as the model's inputs; did you mean"
        " 'mask'?"
    )


def test_images_and_arrays_are_not_taken_for_each_other() -> None:
    image, arrays = Sample("a.png", 0, lambda: np.zeros((28, 28), np.uint8)), Sample("a.npz", 0, lambda: ARRAYS)
    with pytest.raises(DataError, match=r"^a.png is an image, and data.preprocessing.recipe none feeds arrays"):
        recipe_of(SETTINGS).store(image)
    with pytest.raises(DataError, match=r"^a.npz is arrays \(ids, mask, values, pixels\), and recipe crop takes"):
        recipe_of(Preprocessing()).store(arrays)


def test_a_target_is_the_samples_own() -> None:
    sample = Sample("a.npz", 0, lambda: ARRAYS, target=lambda: np.array([1.5, 2.5]))
    np.testing.assert_array_equal(AsItIs(SETTINGS).target(sample), [1.5, 2.5])
