"""What recipes for images are made of: decode and order the channels, with PIL; scale and normalize, with NumPy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright.config import ChannelOrder, Layout, Preprocessing
from enginewright.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Batch = npt.NDArray[np.float32]
AnyImage = Union[str, Path, "Image", Pixels]

MOST_PIXELS = 100_000_000  # of a file that is decoded, as data.max_pixels has it
# The formats that are opened, as Pillow calls them: others run programs (EPS), or are no single picture (PSD, PDF).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_OPENING = threading.Lock()

# What PIL raises on damaged files, by format: OSError (truncated, unknown), SyntaxError (PNG chunks), ValueError,
# EOFError (GIF, TIFF).
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError)


def to_input(pixels: Pixels, preprocessing: Preprocessing) -> Batch:
    """Scale and normalize: (pixel * scale - mean) / std for each channel, then the layout.

    There are 256 values a channel, so this is a look-up in a table computed in float64: exact, and the same on every
    machine.

    Args:
        pixels: uint8 [N, H, W, C], channels in the order of `preprocessing.channels`.
        preprocessing: scale, mean, std and layout are used.

    Returns:
        float32 [N, C, H, W], or [N, H, W, C] for layout nhwc; contiguous.

    Raises:
        DataError: the pixels are no uint8 [N, H, W, C] with the declared number of channels.
    """
    channels = preprocessing.channel_count
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != channels:
        order = preprocessing.channels.name
        raise DataError(
            f"pixels must be uint8 [N, H, W, {channels}] ({order}) and are {pixels.dtype} {list(pixels.shape)}; use"
            " preprocess() for images"
        )
    levels = np.arange(256, dtype=np.float64)[:, None] * preprocessing.scale
    table = ((levels - np.asarray(preprocessing.mean)) / np.asarray(preprocessing.std)).astype(np.float32)  # [256, C]
    planes = [np.take(table[:, channel], pixels[..., channel]) for channel in range(channels)]
    return np.stack(planes, axis=1 if preprocessing.layout is Layout.nchw else 3)


def decoded(image: AnyImage, preprocessing: Preprocessing, name: str, most_pixels: int = MOST_PIXELS) -> Pixels:
    """Decode an image in its own size.

    EXIF orientation is applied; 16-bit gray keeps its upper 8 bits' range (/ 257); transparency is laid over white, but
    for four channels, of which it is the last.

    Args:
        image: path, PIL image, or uint8 array [H, W], [H, W, 1], [H, W, 3] in RGB, for rgba also [H, W, 4].
        preprocessing: channels is used.
        name: what to call the image in an error.
        most_pixels: a file with more is not decoded.

    Returns:
        uint8 [H, W, C]: gray, RGB or RGBA.

    Raises:
        DataError: the image cannot be read, is in none of FORMATS, or has too many pixels.
    """
    if isinstance(image, np.ndarray):
        ready = _array_pixels(image, preprocessing, name)
        if ready is not None:
            return ready
    opened = _open(image, name, most_pixels)
    try:
        pixels = np.asarray(_eight_bits(opened, preprocessing, name))
    except _DAMAGED as fault:
        raise _unreadable(name, fault) from None
    finally:
        if opened is not image:
            opened.close()
    return pixels[..., None] if pixels.ndim == 2 else pixels


def ordered(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Put the channels of `decoded` in the order of `preprocessing.channels`; contiguous, and no view."""
    turned = pixels[..., ::-1] if preprocessing.channels is ChannelOrder.bgr else pixels
    return np.array(turned, order="C")


def _array_pixels(array: Pixels, preprocessing: Preprocessing, name: str) -> Optional[Pixels]:
    """Take an array with NumPy alone, so that a target without PIL can feed frames; None for another colour space."""
    channels = preprocessing.channel_count
    depths = (1, 3, 4) if channels == 4 else (1, 3)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in depths):
        *others, last = ["[H, W]", *(f"[H, W, {depth}]" for depth in depths)]
        raise DataError(f"{name} must be uint8 {', '.join(others)} or {last} and is {array.dtype} {list(array.shape)}")
    array = array[..., None] if array.ndim == 2 else array
    if channels == 4 and array.shape[2] == 3:
        return np.concatenate([array, np.full_like(array[..., :1], 255)], axis=2)
    return array if array.shape[2] == channels else None


def _open(image: AnyImage, name: str, most_pixels: int) -> Image:
    try:
        from PIL import Image as pil  # noqa: N813  # the module, beside the class of the same name
    except ImportError:
        raise DataError(
            f"{name} needs Pillow to be decoded, or brought to other channels: pip install pillow, or feed uint8"
            f" arrays [H, W, C] with the channels that the model takes"
        ) from None
    if isinstance(image, np.ndarray):
        return pil.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if not isinstance(image, (str, Path)):
        if not isinstance(image, pil.Image):
            raise DataError(f"{name} is a {type(image).__name__}; give a path, a PIL image or a uint8 array")
        return image
    with _OPENING:  # Pillow's own limit is one for the whole process
        limit, pil.MAX_IMAGE_PIXELS = pil.MAX_IMAGE_PIXELS, None
        try:
            opened = pil.open(image, formats=FORMATS)
        except _DAMAGED as fault:
            raise _unreadable(name, fault) from None
        finally:
            pil.MAX_IMAGE_PIXELS = limit
    if opened.width * opened.height > most_pixels:
        opened.close()
        raise DataError(
            f"{name} has {opened.width} x {opened.height} pixels, over data.max_pixels = {most_pixels}, and was not"
            " decoded; shrink it, remove it, or raise data.max_pixels if you know where it is from"
        )
    return opened


def _unreadable(name: str, fault: BaseException) -> DataError:
    reason = " ".join(str(fault).split()) or type(fault).__name__
    return DataError(f"{name} cannot be read as an image ({reason}); replace the file or remove it")


def _eight_bits(image: Image, preprocessing: Preprocessing, name: str) -> Image:
    """Upright, 8 bits a channel, in mode L, RGB or RGBA as the model wants it."""
    from PIL import (
        Image as pil,  # noqa: N813
        ImageOps,
    )

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError(f"{name} has floating-point pixels, whose range is unknown; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit gray; PIL's own convert("L") would clip everything over 255 to white
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(f"{name} has 32-bit pixels, whose range is unknown; convert it to 8 or 16 bits")
        image = pil.fromarray(np.round(levels / 257).astype(np.uint8))
    if preprocessing.channels is ChannelOrder.rgba:
        return image.convert("RGBA")  # opaque where an image says nothing of it
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if preprocessing.channels is ChannelOrder.gray else "RGB")
