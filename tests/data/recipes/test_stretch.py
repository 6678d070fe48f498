"""Height and width, each on its own."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.config import ChannelOrder, Preprocessing
from enginewright.data.recipes import IMAGES
from enginewright.data.recipes.stretch import Stretch
from enginewright.data.samples import Sample
from support import opencv


@pytest.mark.parametrize("name", opencv.SHAPES)
def test_the_whole_image_fills_the_input_as_opencv_makes_it(name: str) -> None:
    settings = Preprocessing(size=list(opencv.SHAPES[name][1]), channels=ChannelOrder.rgb, antialias=False)
    arrays, geometry = Stretch(settings).store(Sample(name, 0, lambda: opencv.images()[name]))
    assert np.abs(arrays[IMAGES].astype(int) - opencv.stored()[f"stretch/{name}"]).max() <= 1
    height, width = opencv.SHAPES[name][0]
    np.testing.assert_allclose(geometry.boxes_to_input(np.array([0, 0, width, height])), [0, 0, *settings.size[::-1]])
