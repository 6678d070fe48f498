"""What all recipes for images share, and what each makes of an image: where it lies, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from enginewright.config import Anchor, ChannelOrder, Preprocessing, Rounding
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import Pixels
from enginewright.data.recipes import IMAGES, recipe_of
from enginewright.data.samples import Sample
from enginewright.errors import DataError

RECIPES = [
    pytest.param({"recipe": "crop"}, id="crop"),
    pytest.param({"recipe": "crop", "resize": 16}, id="resized crop"),
    pytest.param({"recipe": "crop", "anchor": Anchor.top_left}, id="crop of the corner"),
    pytest.param({"recipe": "letterbox"}, id="letterbox"),
    pytest.param({"recipe": "letterbox", "anchor": Anchor.top_left, "rounding": Rounding.down}, id="letterbox, YOLOX"),
    pytest.param({"recipe": "stretch"}, id="stretch"),
]


def stored(image: Union[Path, Pixels], preprocessing: Preprocessing) -> tuple[Pixels, Geometry]:
    arrays, geometry = recipe_of(preprocessing).store(Sample("a.png", 0, lambda: image))
    assert geometry is not None
    return arrays[IMAGES], geometry


def target(mask: Pixels, preprocessing: Preprocessing) -> Pixels:
    return recipe_of(preprocessing).target(Sample("a.png", 0, lambda: mask, target=lambda: mask))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("settings", RECIPES)
def test_boxes_are_where_the_pixels_are_and_find_the_way_back(
    settings: dict[str, Any], antialias: bool, tmp_path: Path
) -> None:
    """A white rectangle in a black image: its corners in the input are where the geometry says."""
    picture = np.zeros((48, 64), np.uint8)
    picture[20:28, 24:40] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    preprocessing = Preprocessing(size=[16, 16], pad=[0], antialias=antialias, **settings)
    for image in (tmp_path / "a.png", picture):
        pixels, geometry = stored(image, preprocessing)
        assert (geometry.size, pixels.shape) == ((48, 64), (16, 16, 1))
        box = np.array([24, 20, 40, 28])
        x1, y1, x2, y2 = geometry.boxes_to_input(box).clip(0, 16)
        rows, columns = np.nonzero(pixels[..., 0] > 127)
        if x1 < x2 and y1 < y2:
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_allclose(found, (x1, y1, x2, y2), atol=1)
        else:
            assert not len(rows)
        np.testing.assert_allclose(geometry.boxes_to_image(geometry.boxes_to_input(box)), box)


@pytest.mark.parametrize("settings", RECIPES)
def test_a_mask_of_the_input_covers_the_image(settings: dict[str, Any]) -> None:
    """What the input shows of an image is found again in it, and nothing else."""
    image = np.full((48, 64), 200, np.uint8)
    pixels, geometry = stored(image, Preprocessing(size=[16, 16], pad=[0], **settings))
    shown = geometry.mask_to_image((pixels[..., 0] > 100).astype(np.uint8), outside=9)
    assert shown.shape == image.shape
    assert set(np.unique(shown)) <= {1, 9}
    if settings["recipe"] != "crop":  # the whole image is seen
        assert (shown == 1).all()


@pytest.mark.parametrize("settings", RECIPES)
def test_channels_and_border_are_in_the_order_of_the_model(settings: dict[str, Any]) -> None:
    image = np.empty((48, 64, 3), np.uint8)
    image[...] = (10, 20, 30)
    both = {"size": [16, 16], "mean": [0.0] * 3, "std": [1.0] * 3, **settings}
    rgb, _ = stored(image, Preprocessing(channels=ChannelOrder.rgb, pad=[1, 2, 3], **both))
    bgr, _ = stored(image, Preprocessing(channels=ChannelOrder.bgr, pad=[3, 2, 1], **both))
    assert {tuple(pixel) for pixel in rgb.reshape(-1, 3).tolist()} <= {(10, 20, 30), (1, 2, 3)}
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])


@pytest.mark.parametrize("settings", RECIPES)
def test_what_is_stored_is_not_the_callers_array(settings: dict[str, Any]) -> None:
    image = np.zeros((16, 16), np.uint8)
    kept, _ = stored(image, Preprocessing(**{"size": [16, 16], **settings}))
    image[...] = 255
    assert not kept.any()


MASK = np.arange(54, dtype=np.uint8).reshape(6, 9)


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        pytest.param({"recipe": "crop", "size": [6, 7]}, lambda: MASK[:, 1:8], id="crop"),
        pytest.param(
            {"recipe": "letterbox", "size": [8, 9]},
            lambda: np.pad(MASK, ((1, 1), (0, 0)), constant_values=255),
            id="box",
        ),
        pytest.param({"recipe": "stretch", "size": [6, 9]}, lambda: MASK, id="stretch"),
    ],
)
def test_a_target_lies_where_its_image_lies_and_a_border_does_not_count(
    settings: dict[str, Any], seen: Callable[[], Pixels]
) -> None:
    preprocessing = Preprocessing(pad=[255], **settings)
    np.testing.assert_array_equal(target(MASK, preprocessing), seen())
    np.testing.assert_array_equal(target(MASK, preprocessing), stored(MASK, preprocessing)[0][..., 0])


@pytest.mark.parametrize(
    ("mask", "settings", "text"),
    [
        pytest.param(
            np.zeros((9, 9)), {}, r"the targets of a.png must be uint8 \[H, W\] and are float64 \[9, 9\]", id="float"
        ),
        pytest.param(np.zeros((9, 9, 1), np.uint8), {}, r"must be uint8 \[H, W\]", id="channels"),
        pytest.param(
            np.zeros((9, 12), np.uint8),
            {"resize": 8},
            "a.png has targets by pixel, which are not resized: set data.preprocessing.resize to null",
            id="resize",
        ),
        pytest.param(np.zeros((9, 4), np.uint8), {}, "a.png is 9 x 4 pixels", id="small"),
        pytest.param(
            np.zeros((9, 12), np.uint8),
            {"recipe": "letterbox"},
            "a.png has targets by pixel, which are not resized: choose recipe crop, or bring images of that size",
            id="letterbox",
        ),
    ],
)
def test_targets_that_cannot_be_cut(mask: npt.NDArray[Any], settings: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        target(mask, Preprocessing(**{"size": [6, 6], **settings}))


@pytest.mark.parametrize("count", [0, 2])
def test_an_image_is_one_input(count: int) -> None:
    recipe = recipe_of(Preprocessing(recipe="letterbox", size=[6, 6]))
    made: dict[str, Optional[object]] = dict(recipe.store(Sample("a", 0, lambda: np.zeros((6, 6), np.uint8)))[0])
    with pytest.raises(DataError, match=f"recipe letterbox makes one input of an image, and the model has {count}"):
        recipe.feeds({IMAGES: np.asarray(made[IMAGES])[None]}, ["left", "right"][:count])


@pytest.mark.parametrize("settings", RECIPES[3:])
def test_a_box_lies_within_half_a_pixel_of_its_pixels_whatever_the_size(settings: dict[str, Any]) -> None:
    """100 random sizes: the edges of a white rectangle, to a part of a pixel by its sums, and the way back."""
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(size=[160, 160], pad=[0], antialias=False, **settings)
    for _ in range(100):
        height, width = (int(side) for side in rng.integers(60, 400, 2))
        y1, x1 = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        y2, x2 = int(rng.integers(y1 + height // 4, height + 1)), int(rng.integers(x1 + width // 4, width + 1))
        picture = np.zeros((height, width), np.uint8)
        picture[y1:y2, x1:x2] = 255
        pixels, geometry = stored(picture, preprocessing)
        box = np.array([x1, y1, x2, y2], np.float64)
        left, top, right, bottom = geometry.boxes_to_input(box).tolist()
        across, down = pixels[round((top + bottom) / 2), :, 0], pixels[:, round((left + right) / 2), 0]
        for profile, (low, high) in ((across, (left, right)), (down, (top, bottom))):
            level = profile / 255
            centre, length = float(level @ (np.arange(160) + 0.5) / level.sum()), float(level.sum())
            assert centre - length / 2 == pytest.approx(low, abs=0.5)
            assert centre + length / 2 == pytest.approx(high, abs=0.5)
        back = geometry.boxes_to_image(np.array([left, top, right, bottom]))
        assert back.tolist() == pytest.approx(box.tolist(), abs=1e-9)
