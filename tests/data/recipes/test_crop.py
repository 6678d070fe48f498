"""The window that is cut out of an image."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.config import Anchor, Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import Pixels
from enginewright.data.recipes import IMAGES
from enginewright.data.recipes.crop import Crop
from enginewright.data.samples import Sample
from enginewright.errors import DataError


def crop(image: Pixels, preprocessing: Preprocessing) -> tuple[Pixels, Geometry]:
    arrays, geometry = Crop(preprocessing).store(Sample("a.png", 0, lambda: image))
    return arrays[IMAGES][..., 0], geometry


def test_resize_is_of_the_shorter_side_and_antialiased() -> None:
    checks = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (40, 60))  # 80 x 120
    pixels, _ = crop(checks, Preprocessing(resize=20, size=[20, 30]))
    assert pixels.shape == (20, 30)
    assert np.abs(pixels[2:-2, 2:-2].astype(int) - 128).max() < 12  # without antialiasing it would stay black and white
    sharp, _ = crop(checks[:78], Preprocessing(resize=26, size=[20, 30], antialias=False))
    assert set(np.unique(sharp)) == {0, 255}


@pytest.mark.parametrize(
    ("anchor", "resize", "fit"),
    [
        pytest.param(Anchor.centre, None, ((9, 12), (-2, -2)), id="halves to even, as torchvision"),
        pytest.param(Anchor.centre, 8, ((8, 10), (-1, -2)), id="the longer side is cut down to whole pixels"),
        pytest.param(Anchor.top_left, None, ((9, 12), (0, 0)), id="corner"),
    ],
)
def test_where_it_is_taken(anchor: Anchor, resize: int, fit: tuple[tuple[int, int], tuple[int, int]]) -> None:
    found = Crop(Preprocessing(resize=resize, size=[6, 7], anchor=anchor)).fit(9, 12, "a.png")
    assert (found.resized, found.offset, found.size) == (*fit, (6, 7))


@pytest.mark.parametrize(
    ("resize", "sentence"),
    [
        pytest.param(
            None,
            r"^a.png is 3 x 9 pixels \(height x width\) after resizing, smaller than the crop of 4 x 6; set"
            r" data.preprocessing.resize to 6 or more, or lower data.preprocessing.size$",
            id="as it is",
        ),
        pytest.param(2, "a.png is 2 x 6 pixels .* raise data.preprocessing.resize to 6", id="resized too far"),
    ],
)
def test_an_image_that_is_smaller_is_refused(resize: int, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        crop(np.zeros((3, 9), np.uint8), Preprocessing(resize=resize, size=[4, 6]))
