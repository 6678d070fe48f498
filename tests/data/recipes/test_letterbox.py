"""Letterbox as ultralytics and YOLOX make it with OpenCV, and as DeepStream rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enginewright.config import Anchor, ChannelOrder, Preprocessing, Rounding
from enginewright.data.recipes import IMAGES
from enginewright.data.recipes.letterbox import Letterbox
from enginewright.data.samples import Sample
from support import opencv

THREE: dict[str, Any] = {"mean": [0.0] * 3, "std": [1.0] * 3, "antialias": False, "recipe": "letterbox"}


@pytest.mark.parametrize("name", opencv.SHAPES)
@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        pytest.param("ultralytics", {"channels": ChannelOrder.rgb}, id="ultralytics"),
        pytest.param(
            "yolox",
            {"channels": ChannelOrder.bgr, "anchor": Anchor.top_left, "rounding": Rounding.down},
            id="yolox",
        ),
    ],
)
def test_it_is_what_the_projects_feed_within_one_level(rule: str, settings: dict[str, Any], name: str) -> None:
    preprocessing = Preprocessing(size=list(opencv.SHAPES[name][1]), **THREE, **settings)
    arrays, _ = Letterbox(preprocessing).store(Sample(name, 0, lambda: opencv.images()[name]))
    assert np.abs(arrays[IMAGES].astype(int) - opencv.stored()[f"{rule}/{name}"]).max() <= 1


@pytest.mark.parametrize(
    ("anchor", "rounding", "image", "fit"),
    [
        pytest.param(Anchor.centre, Rounding.nearest, (1080, 1920), ((360, 640), (140, 0)), id="wide"),
        pytest.param(Anchor.centre, Rounding.nearest, (100, 33), ((640, 211), (0, 214)), id="tall and small, odd"),
        pytest.param(Anchor.centre, Rounding.nearest, (427, 640), ((427, 640), (106, 0)), id="an odd border"),
        pytest.param(Anchor.top_left, Rounding.down, (333, 1000), ((213, 640), (0, 0)), id="down"),
        pytest.param(Anchor.top_left, Rounding.nearest, (334, 1000), ((214, 640), (0, 0)), id="nearest"),
        pytest.param(Anchor.top_left, Rounding.up, (1001, 333), ((640, 213), (0, 0)), id="up"),
        pytest.param(Anchor.centre, Rounding.down, (1, 9999), ((1, 640), (319, 0)), id="a line keeps a pixel"),
    ],
)
def test_where_the_image_goes(
    anchor: Anchor, rounding: Rounding, image: tuple[int, int], fit: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    found = Letterbox(Preprocessing(size=[640, 640], anchor=anchor, rounding=rounding)).fit(*image, "a.png")
    assert (found.resized, found.offset, found.size) == (*fit, (640, 640))


def test_the_border_is_of_each_channel_or_of_all() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    for pad, expected in {(7,): [7, 7, 7], (1, 2, 3): [1, 2, 3]}.items():
        settings = Preprocessing(size=[4, 4], channels=ChannelOrder.rgb, pad=list(pad), **THREE)
        arrays, _ = Letterbox(settings).store(Sample("a", 0, lambda: image))
        assert arrays[IMAGES][:, 0].tolist() == [expected, [0, 0, 0], [0, 0, 0], expected]
