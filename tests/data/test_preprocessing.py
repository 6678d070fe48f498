"""What an image becomes, on files as users have them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enginewright.config import ChannelOrder, Layout, Preprocessing
from enginewright.data import preprocess
from enginewright.data.preprocessing import AnyImage, Pixels, decoded, ordered, to_input
from enginewright.errors import DataError

GRAY = Preprocessing(size=[4, 6])
RGB = Preprocessing(size=[4, 6], channels=ChannelOrder.rgb, mean=[0.0] * 3, std=[1.0] * 3)
RGBA = Preprocessing(size=[4, 6], channels=ChannelOrder.rgba, mean=[0.0] * 4, std=[1.0] * 4)
BGR = Preprocessing(size=[4, 6], channels=ChannelOrder.bgr, mean=[0.0] * 3, std=[1.0] * 3)


def to_pixels(image: AnyImage, preprocessing: Preprocessing) -> Pixels:
    name = str(image) if isinstance(image, (str, Path)) else "the image"
    return ordered(decoded(image, preprocessing, name), preprocessing)


def test_scale_mean_std_and_layout() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    settings = Preprocessing(
        size=[2, 4], channels=ChannelOrder.rgb, scale=1 / 255, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.125]
    )
    expected = (pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.125]
    batch = to_input(pixels, settings)
    assert (str(batch.dtype), batch.shape, batch.flags.c_contiguous) == ("float32", (1, 3, 2, 4), True)
    np.testing.assert_allclose(batch, expected.transpose(0, 3, 1, 2), rtol=1e-6)
    settings.layout = Layout.nhwc
    np.testing.assert_allclose(to_input(pixels, settings), expected, rtol=1e-6)


def test_channel_orders_of_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (6, 4), (200, 100, 50)).save(path)
    assert to_pixels(path, RGB)[0, 0].tolist() == [200, 100, 50]
    assert to_pixels(path, BGR)[0, 0].tolist() == [50, 100, 200]
    assert to_pixels(path, GRAY)[0, 0].tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        pytest.param("RGBA", (0, 0, 0, 0), 255, id="transparent over white"),
        pytest.param("LA", (0, 255), 0, id="opaque gray with alpha"),
        pytest.param("I;16", 65535, 255, id="16 bit white"),
        pytest.param("I;16", 257 * 100, 100, id="16 bit middle"),
        pytest.param("P", 0, 0, id="palette"),
        pytest.param("1", 1, 255, id="bilevel"),
        pytest.param("CMYK", (0, 0, 0, 0), 255, id="cmyk"),
    ],
)
def test_modes(mode: str, colour: object, expected: int, tmp_path: Path) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (6, 4), colour).save(path)  # type: ignore[arg-type]
    for settings in (GRAY, RGB):
        assert set(to_pixels(path, settings).ravel().tolist()) == {expected}


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((8, 6, 3), np.uint8)
    upright[:4] = 255  # white above, black below
    stored = Image.fromarray(np.rot90(upright).copy())  # as a camera held sideways stores it
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    pixels = to_pixels(path, GRAY)
    assert pixels.shape == (8, 6, 1)
    assert pixels[0].min() == 255
    assert pixels[-1].max() == 0


def test_the_fourth_channel_is_alpha_as_it_is_and_opaque_where_there_is_none(tmp_path: Path) -> None:
    held = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    Image.fromarray(held).save(tmp_path / "four.png")
    np.testing.assert_array_equal(to_pixels(tmp_path / "four.png", RGBA), held)
    np.testing.assert_array_equal(to_pixels(held, RGBA), held)
    opaque = np.dstack([held[..., :3], np.full((4, 6), 255, np.uint8)])
    Image.fromarray(held[..., :3]).save(tmp_path / "three.png")
    np.testing.assert_array_equal(to_pixels(tmp_path / "three.png", RGBA), opaque)
    np.testing.assert_array_equal(to_pixels(held[..., :3], RGBA), opaque)
    gray = to_pixels(held[..., 0], RGBA)
    assert (gray[..., :3] == held[..., :1]).all()
    assert set(gray[..., 3].ravel().tolist()) == {255}
    assert preprocess(tmp_path / "four.png", RGBA).shape == (1, 4, 4, 6)


def test_a_batch_equals_its_images_however_they_are_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (5, 9, 3), dtype=np.uint8) for _ in range(2)]
    paths = []
    for index, array in enumerate(arrays):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(array).save(paths[-1])
    for settings in (GRAY, RGB, BGR):
        expected = preprocess(paths, settings)
        assert expected.shape[0] == 2
        np.testing.assert_array_equal(preprocess(arrays, settings), expected)
        np.testing.assert_array_equal(preprocess(np.stack(arrays), settings), expected)
        np.testing.assert_array_equal(preprocess([Image.fromarray(array) for array in arrays], settings), expected)
        np.testing.assert_array_equal(preprocess(paths[0], settings), expected[:1])
        np.testing.assert_array_equal(preprocess(arrays[0], settings), expected[:1])


def test_a_frame_of_the_right_size_needs_no_pillow() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "import numpy as np\n"
        "from enginewright.config import Preprocessing\nfrom enginewright.data import preprocess\n"
        "print(preprocess(np.zeros((30, 30), np.uint8), Preprocessing()).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 1, 28, 28)"


@pytest.mark.parametrize(
    ("image", "text"),
    [
        pytest.param(np.zeros((9, 9), np.float32), r"must be uint8 .* float32 \[9, 9\]", id="float array"),
        pytest.param(np.zeros((9, 9, 4), np.uint8), r"must be uint8 .* \[9, 9, 4\]", id="four channels"),
        pytest.param("missing.png", "missing.png cannot be read .*No such file", id="missing file"),
        pytest.param(Image.new("F", (9, 9)), "floating-point pixels", id="floats"),
    ],
)
def test_what_cannot_be_preprocessed(image: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        to_pixels(image, GRAY)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow warns before it gives up on a TIFF
@pytest.mark.parametrize(
    "keep", [pytest.param(0, id="empty"), pytest.param(30, id="header only"), pytest.param(300, id="truncated")]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_damaged_file_is_named(suffix: str, keep: int, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        DataError, match=rf"broken\.{suffix} cannot be read as an image .*replace the file or remove it"
    ):
        to_pixels(path, GRAY)


def test_no_image_at_all() -> None:
    with pytest.raises(DataError, match="at least one"):
        preprocess([], GRAY)


def test_pixels_of_another_channel_count() -> None:
    with pytest.raises(DataError, match=r"\[N, H, W, 3\] \(rgb\) and are uint8 \[1, 4, 6, 1\]"):
        to_input(np.zeros((1, 4, 6, 1), np.uint8), RGB)


@pytest.mark.parametrize("kind", ["EPS", "PCX", "SGI", "TGA"])
def test_only_declared_formats_are_opened_whatever_a_file_is_called(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, format=kind)
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image \(cannot identify image file"):
        decoded(path, Preprocessing(), str(path))


@pytest.mark.parametrize(
    ("side", "most", "refused"),
    [
        pytest.param(100, 10_000, False, id="as many as allowed"),
        pytest.param(100, 9_999, True, id="one more"),
        pytest.param(14_000, 100_000_000, True, id="where Pillow would refuse"),
        pytest.param(
            14_000, 200_000_000, False, id="where Pillow would refuse, and it is allowed", marks=pytest.mark.slow
        ),
        pytest.param(9_900, 100_000_000, False, id="where Pillow would warn", marks=pytest.mark.slow),
    ],
)
def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path, side: int, most: int, refused: bool) -> None:
    path, before = tmp_path / "a.png", Image.MAX_IMAGE_PIXELS
    Image.new("1", (side, side)).save(path)
    if refused:
        with pytest.raises(DataError, match=rf"a\.png has {side} x {side} pixels, over data\.max_pixels = {most}, and"):
            decoded(path, Preprocessing(), str(path), most)
    else:
        assert decoded(path, Preprocessing(), str(path), most).shape == (side, side, 1)
    assert before == Image.MAX_IMAGE_PIXELS
