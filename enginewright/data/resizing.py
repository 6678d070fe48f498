"""Images brought to another size: without antialiasing in NumPy, as OpenCV does it; with it in Pillow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enginewright.config import Interpolation, Preprocessing
from enginewright.data.preprocessing import Pixels
from enginewright.errors import DataError

ONE = 2048  # of the weights, which are whole numbers as OpenCV's are: the same bytes on every machine
HALF = ONE * ONE // 2


def resized(pixels: Pixels, size: tuple[int, int], preprocessing: Preprocessing, name: str) -> Pixels:
    """Resize an image, each channel on its own.

    Args:
        pixels: uint8 [H, W, C].
        size: height and width.
        preprocessing: antialias and interpolation are used.
        name: what to call the image in an error.

    Returns:
        uint8 [height, width, C].

    Raises:
        DataError: antialiasing needs Pillow, which is not installed.
    """
    if pixels.shape[:2] == size:
        return pixels
    if not preprocessing.antialias:
        return bilinear(pixels, size)
    try:
        from PIL import Image as pil  # noqa: N813  the module
    except ImportError:
        raise DataError(
            f"{name} needs Pillow to be resized with antialiasing: pip install pillow, feed uint8 arrays of"
            f" {size[0]} x {size[1]}, or set data.preprocessing.antialias to false if the model was trained without"
        ) from None
    kind = {Interpolation.bilinear: pil.Resampling.BILINEAR, Interpolation.bicubic: pil.Resampling.BICUBIC}
    # Pillow would weigh the colours of four channels by the fourth
    bands = [pixels] if pixels.shape[2] == 3 else [pixels[..., band] for band in range(pixels.shape[2])]
    made = [
        np.asarray(pil.fromarray(np.ascontiguousarray(band)).resize(size[::-1], kind[preprocessing.interpolation]))
        for band in bands
    ]
    return made[0] if pixels.shape[2] == 3 else np.stack(made, axis=-1)


def bilinear(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize uint8 [H, W, ...] to [height, width, ...] between the centres of the nearest four pixels.

    No antialiasing: where an image becomes less than half, some of its pixels count nowhere. That is what OpenCV's
    INTER_LINEAR does, which this equals within one grey level.
    """
    (above, below, down), (left, right, across) = (_neighbours(old, new) for old, new in zip(pixels.shape[:2], size))
    down = down.reshape(-1, *[1] * (pixels.ndim - 1))
    across = across.reshape(-1, *[1] * (pixels.ndim - 2))
    rows = pixels[above] * (ONE - down) + pixels[below] * down  # int32: at most 255 * 2^22
    blended = rows[:, left] * (ONE - across) + rows[:, right] * across
    return np.asarray((blended + HALF) // (2 * HALF), np.uint8)


def _neighbours(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of each new pixel: the old one before its centre, the one behind it, and the weight of that one, 0 to ONE."""
    centre = (2 * np.arange(new, dtype=np.int64) + 1) * old - new  # in units of 1 / (2 * new) old pixels
    before, rest = np.divmod(centre, 2 * new)
    weight = (rest * ONE + new) // (2 * new)
    return before.clip(0, old - 1), (before + 1).clip(0, old - 1), weight.astype(np.int32)
