"""Images at their own size: decoded, scaled and laid out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.config import ChannelOrder, Layout, Preprocessing
from enginewright.data import preprocess
from enginewright.data.geometry import Geometry
from enginewright.data.recipes import IMAGES
from enginewright.data.recipes.whole import Whole
from enginewright.data.samples import Sample
from enginewright.errors import DataError

SETTINGS = Preprocessing(
    recipe="whole", channels=ChannelOrder.bgr, mean=[0.1, 0.2, 0.3], std=[0.5] * 3, layout=Layout.nhwc
)


@pytest.mark.parametrize("shape", [(3, 5, 3), (40, 7, 3)])
def test_it_is_the_image_with_the_channels_scaled(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = (image[None, ..., ::-1] / 255 - SETTINGS.mean) / 0.5
    np.testing.assert_allclose(preprocess(image, SETTINGS), expected, rtol=1e-6)
    stored, geometry = Whole(SETTINGS).store(Sample("a", 0, lambda: image))
    assert stored[IMAGES].dtype == np.uint8
    assert geometry == Geometry((shape[0], shape[1]))


def test_a_target_stays_as_it_is() -> None:
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    sample = Sample("a", 0, lambda: np.zeros((2, 3), np.uint8), target=lambda: mask)
    np.testing.assert_array_equal(Whole(SETTINGS).target(sample), mask)


def test_a_batch_of_several_shapes_is_refused_with_them() -> None:
    sentence = (
        r"^a batch has one shape, and of 'images' there are \[4, 6, 3\] and \[5, 6, 3\]; preprocess those of one shape"
        " at a time$"
    )
    with pytest.raises(DataError, match=sentence):
        preprocess([np.zeros((5, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], SETTINGS)
