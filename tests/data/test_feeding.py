"""The one road: rows of an image set to what each input takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from enginewright.config import Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.data.columns import Ragged
from enginewright.errors import ConfigError, DataError
from enginewright.interface import AxisRange, Interface, TensorSpec
from enginewright.results.shape import SampleShape

PIXELS = np.arange(20 * 6 * 6, dtype=np.int64).reshape(20, 6, 6, 1).astype(np.uint8)
IMAGES = ImageSet({"images": PIXELS}, None, (), tuple(map(str, range(20))), [])
SETTINGS = Preprocessing(size=[6, 6], scale=1.0)
PLAIN = TensorSpec("pixels", np.dtype(np.float32), ("batch", 1, 6, 6))


def test_batches_are_in_order_and_the_last_one_is_smaller() -> None:
    batches = [feeds["pixels"] for feeds in Feeding(IMAGES, SETTINGS).batches([PLAIN], 8)]
    assert [batch.shape for batch in batches] == [(8, 1, 6, 6), (8, 1, 6, 6), (4, 1, 6, 6)]
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0], PIXELS[..., 0])


def test_a_batch_that_the_model_fixes_is_fed_whatever_is_asked_for() -> None:
    fixed = replace(PLAIN, shape=(5, 1, 6, 6))
    assert [len(feeds["pixels"]) for feeds in Feeding(IMAGES, SETTINGS).batches([fixed], 8)] == [5, 5, 5, 5]


def test_samples_that_are_no_multiple_of_a_fixed_batch_are_neither_dropped_nor_padded() -> None:
    sentence = "the model takes 8 samples at once, and 20 samples, or those of one shape, are no multiple of that"
    with pytest.raises(DataError, match=f"{sentence}; set their number to 16"):
        list(Feeding(IMAGES, SETTINGS).batches([replace(PLAIN, shape=(8, 1, 6, 6))], 8))


def test_any_rows_in_any_order() -> None:
    found = Feeding(IMAGES, SETTINGS).rows(np.array([3, 0, 3]), [PLAIN])["pixels"]
    np.testing.assert_array_equal(found[:, 0], PIXELS[[3, 0, 3], ..., 0])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(PLAIN, np.arange(4, dtype=np.float32), id="float32"),
        pytest.param(
            TensorSpec("half", np.dtype(np.float16), ("batch", 1, 6, 6)), np.arange(4, dtype=np.float16), id="float16"
        ),
        pytest.param(
            TensorSpec("int8", np.dtype(np.int8), ("batch", 1, 6, 6), 0.5), np.array([0, 2, 4, 6], np.int8), id="int8"
        ),
    ],
)
def test_an_input_is_fed_in_its_own_dtype(spec: TensorSpec, expected: np.ndarray) -> None:
    found = Feeding(IMAGES, SETTINGS).rows(slice(1), [spec])[spec.name]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found[0, 0, 0, :4], expected)


def test_an_image_is_one_input() -> None:
    sentence = r"recipe crop makes one input of an image, and the model has 2 \(left, right\); feed arrays"
    with pytest.raises(DataError, match=sentence):
        Feeding(IMAGES, SETTINGS).rows(slice(1), [replace(PLAIN, name="left"), replace(PLAIN, name="right")])


def test_a_recipe_that_nobody_has() -> None:
    with pytest.raises(ConfigError, match="there is no recipe 'corp'; did you mean 'crop'\\?"):
        Feeding(IMAGES, Preprocessing(recipe="corp"))


RAGGED = replace(
    IMAGES,
    arrays={"pixels": Ragged.of([np.full((1, 6, 4 + index % 3 // 2), index, np.float32) for index in range(20)])},
)
MOVING = Interface((replace(PLAIN, shape=("batch", 1, "height", "width")),), ())
AS_THEY_ARE = Preprocessing(recipe="none")


def test_the_commonest_shape_is_what_is_measured() -> None:
    found = Feeding(RAGGED, AS_THEY_ARE).shape(MOVING.inputs)
    assert found == SampleShape({"pixels": (1, 6, 4)}, 14, 20, 2)
    assert found.says() == "pixels [1, 6, 4], the shape of 14 of 20 samples (2 shapes)"
    assert Feeding(IMAGES, SETTINGS).shape([PLAIN]) == SampleShape({"pixels": (1, 6, 6)}, 20, 20, 1)
    assert Feeding(IMAGES.first(0), SETTINGS).shape([PLAIN]) is None


def test_a_sample_out_of_the_range_of_an_axis_is_named() -> None:
    feeding, height = Feeding(RAGGED, AS_THEY_ARE), AxisRange(1, 6, 6)
    feeding.require_within(MOVING, {"height": height, "width": AxisRange(4, 4, 5)})
    with pytest.raises(DataError) as fault:
        feeding.require_within(MOVING, {"height": height, "width": AxisRange(2, 3, 4)})
    assert str(fault.value) == (
        "the sample 2 has width 5, and axes.width takes 2 to 4; bring it to such a size, leave it out, or widen"
        " axes.width"
    )


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        pytest.param(([1, 6, 2], [1, 6, 5]), "the smallest width of a sample in the source is 2, and", id="smaller"),
        pytest.param(([1, 6, 4], [1, 6, 9]), "the largest width of a sample in the source is 9, and", id="larger"),
    ],
)
def test_samples_of_the_other_sets_are_held_to_the_axes_too(widths: tuple[list[int], list[int]], said: str) -> None:
    axes = {"height": AxisRange(1, 6, 6), "width": AxisRange(4, 4, 5)}
    feeding = Feeding(replace(RAGGED, sizes={"pixels": widths}), AS_THEY_ARE)
    with pytest.raises(DataError, match=f"{said} axes.width takes 4 to 5; bring all samples to such sizes"):
        feeding.require_within(MOVING, axes)
