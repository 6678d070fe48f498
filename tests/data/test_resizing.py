"""Images of another size: as OpenCV makes them, and as Pillow does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from enginewright.config import Interpolation, Preprocessing
from enginewright.data.resizing import bilinear, resized
from support import opencv

SHARP = Preprocessing(antialias=False)


@pytest.mark.parametrize("name", opencv.SHAPES)
def test_without_antialiasing_it_is_opencv_within_one_level(name: str) -> None:
    made = bilinear(opencv.images()[name], opencv.SHAPES[name][1]).astype(int)
    assert np.abs(made - opencv.stored()[f"stretch/{name}"]).max() <= 1


def test_the_committed_answers_are_those_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")
    found, stored = opencv.answers(cv2), opencv.stored()
    assert list(found) == list(stored)
    for name, made in found.items():  # another version may round another way
        assert np.abs(made.astype(int) - stored[name]).max() <= 1, name


@pytest.mark.parametrize("size", [(360, 640), (640, 640), (1200, 2000), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_photograph_is_opencv_within_one_level(size: tuple[int, int], channels: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")
    image = np.random.default_rng(0).integers(0, 256, (480, 853, channels), dtype=np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, channels)
    assert np.abs(bilinear(image, size).astype(int) - expected).max() <= 1


def test_a_flat_image_stays_flat_and_a_ramp_stays_straight() -> None:
    assert set(bilinear(np.full((5, 7, 1), 255, np.uint8), (11, 3)).ravel().tolist()) == {255}
    ramp = np.arange(0, 240, 24, dtype=np.uint8)[None, :, None]
    np.testing.assert_array_equal(
        bilinear(ramp, (1, 20))[0, 1:-1, 0], np.arange(6, 222, 12)
    )  # a quarter behind each centre, and one before it


def test_four_channels_do_not_touch_each_other() -> None:
    """The fourth is often infrared or depth: the colours under a zero in it are as good as any."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 40, 4), dtype=np.uint8)
    image[..., 3] = 0
    for preprocessing in (SHARP, Preprocessing(), Preprocessing(interpolation=Interpolation.bicubic)):
        made = resized(image, (12, 16), preprocessing, "a.png")
        for band in range(4):
            alone = resized(image[..., band : band + 1], (12, 16), preprocessing, "a.png")
            np.testing.assert_array_equal(made[..., band : band + 1], alone)


@pytest.mark.parametrize("kind", Interpolation)
def test_with_antialiasing_it_is_pillow(kind: Interpolation) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((16, 12), Image.Resampling[kind.name.upper()]))
    np.testing.assert_array_equal(resized(image, (12, 16), Preprocessing(interpolation=kind), "a.png"), expected)


def test_a_target_without_pillow_resizes_where_nothing_is_averaged() -> None:
    program = """
import sys; sys.modules['PIL'] = None
import numpy as np
from enginewright.config import Preprocessing
from enginewright.data import preprocess
from enginewright.errors import DataError
frame = np.zeros((30, 50), np.uint8)
print(preprocess(frame, Preprocessing(recipe="letterbox", antialias=False)).shape)
try:
    preprocess(frame, Preprocessing(recipe="stretch"))
except DataError as fault:
    print(fault)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "(1, 1, 28, 28)",
        "the image needs Pillow to be resized with antialiasing: pip install pillow, feed uint8 arrays of 28 x 28, or"
        " set data.preprocessing.antialias to false if the model was trained without",
    ]
