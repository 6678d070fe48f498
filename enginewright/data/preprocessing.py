"""What recipes for images are made of: decode, resize, crop and order the channels, with PIL; scale and normalize, with
NumPy alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright.config import ChannelOrder, Layout, Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Batch = npt.NDArray[np.float32]
AnyImage = Union[str, Path, "Image", Pixels]

# What PIL raises on damaged files, by format: OSError (truncated, unknown), SyntaxError (PNG chunks), ValueError,
# EOFError (GIF, TIFF).
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError)


def channel_count(preprocessing: Preprocessing) -> int:
    """1 for gray, else 3."""
    return 1 if preprocessing.channels is ChannelOrder.gray else 3


def pixel_shape(preprocessing: Preprocessing) -> tuple[int, int, int]:
    """Height, width, channels of what `cropped` returns."""
    height, width = preprocessing.size
    return height, width, channel_count(preprocessing)


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
    channels = channel_count(preprocessing)
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


def cropped(image: AnyImage, preprocessing: Preprocessing, name: str) -> tuple[Pixels, Geometry]:
    """Decode, resize the shorter side, take the centre crop, order the channels.

    Rounding as in torchvision's Resize (the longer side is cut down to whole pixels) and CenterCrop; bilinear with
    antialiasing as PIL does it. EXIF orientation is applied; 16-bit gray keeps its upper 8 bits' range (/ 257);
    transparency is laid over white.

    Args:
        image: path, PIL image, or uint8 array [H, W], [H, W, 1] or [H, W, 3] in RGB.
        preprocessing: resize, size and channels are used.
        name: what to call the image in an error.

    Returns:
        uint8 [H, W, C] as `pixel_shape` says, and where the image lies in it.

    Raises:
        DataError: the image cannot be read, or is smaller than the crop (nothing is padded: borders would shift the
            calibration).
    """
    if isinstance(image, np.ndarray):
        ready = _array_pixels(image, preprocessing, name)
        if ready is not None:
            return ready
    opened = _open(image, name)
    try:
        return _resize_and_crop(_eight_bits(opened, preprocessing, name), preprocessing, name)
    except _DAMAGED as fault:
        raise _unreadable(name, fault) from None
    finally:
        if opened is not image:
            opened.close()


def to_target(mask: Pixels, preprocessing: Preprocessing, name: str) -> Pixels:
    """Cut the classes of an image's pixels as `cropped` cuts the image.

    Args:
        mask: uint8 [H, W], of the size of the image.
        preprocessing: size is used.
        name: what to call the image in an error.

    Returns:
        uint8 [height, width].

    Raises:
        DataError: it is no such array, is smaller than the crop, or would have to be resized: between two classes there
            is nothing.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise DataError(f"the targets of {name} must be uint8 [H, W] and are {mask.dtype} {list(mask.shape)}")
    if preprocessing.resize not in (None, min(mask.shape)):
        raise DataError(
            f"{name} has targets by pixel, which are not resized: set data.preprocessing.resize to null, or bring"
            " images of that size"
        )
    top, left = _crop_corner(mask.shape[1], mask.shape[0], preprocessing, name)
    height, width = preprocessing.size
    return np.ascontiguousarray(mask[top : top + height, left : left + width])


def _array_pixels(array: Pixels, preprocessing: Preprocessing, name: str) -> Optional[tuple[Pixels, Geometry]]:
    """Crop an array with numpy alone, so that a target without PIL can feed frames; None if it needs a resize or
    another colour space.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise DataError(f"{name} must be uint8 [H, W], [H, W, 1] or [H, W, 3] and is {array.dtype} {list(array.shape)}")
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[2] != channel_count(preprocessing) or preprocessing.resize not in (None, min(array.shape[:2])):
        return None
    top, left = _crop_corner(array.shape[1], array.shape[0], preprocessing, name)
    height, width = preprocessing.size
    pixels = array[top : top + height, left : left + width]
    ordered = np.ascontiguousarray(pixels[..., ::-1] if preprocessing.channels is ChannelOrder.bgr else pixels)
    return ordered, Geometry((array.shape[0], array.shape[1]), offset=(-top, -left))


def _open(image: AnyImage, name: str) -> Image:
    try:
        from PIL import Image as pil  # noqa: N813  # the module, beside the class of the same name
    except ImportError:
        raise DataError(
            f"{name} needs Pillow to be decoded or resized: pip install pillow, or feed uint8 arrays of the size of the"
            " crop"
        ) from None
    if isinstance(image, np.ndarray):
        return pil.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if not isinstance(image, (str, Path)):
        if not isinstance(image, pil.Image):
            raise DataError(f"{name} is a {type(image).__name__}; give a path, a PIL image or a uint8 array")
        return image
    try:
        return pil.open(image)
    except (*_DAMAGED, pil.DecompressionBombError) as fault:
        raise _unreadable(name, fault) from None


def _unreadable(name: str, fault: BaseException) -> DataError:
    reason = " ".join(str(fault).split()) or type(fault).__name__
    return DataError(f"{name} cannot be read as an image ({reason}); replace the file or remove it")


def _eight_bits(image: Image, preprocessing: Preprocessing, name: str) -> Image:
    """Upright, 8 bits a channel, in mode L or RGB as the model wants it."""
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
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if preprocessing.channels is ChannelOrder.gray else "RGB")


def _resize_and_crop(image: Image, preprocessing: Preprocessing, name: str) -> tuple[Pixels, Geometry]:
    from PIL import Image as pil  # noqa: N813

    side, (image_width, image_height) = preprocessing.resize, image.size
    if side is not None and min(image.size) != side:
        short = min(image.size)
        width, height = (int(side * edge / short) for edge in image.size)
        image = image.resize((max(width, side), max(height, side)), pil.Resampling.BILINEAR)
    top, left = _crop_corner(image.width, image.height, preprocessing, name)
    height, width = preprocessing.size
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    geometry = Geometry(
        (image_height, image_width), (image.height / image_height, image.width / image_width), (-top, -left)
    )
    if pixels.ndim == 2:
        return pixels[..., None].copy(), geometry
    return np.ascontiguousarray(pixels[..., ::-1] if preprocessing.channels is ChannelOrder.bgr else pixels), geometry


def _crop_corner(width: int, height: int, preprocessing: Preprocessing, name: str) -> tuple[int, int]:
    """Top and left of the centre crop, rounded as torchvision's CenterCrop does."""
    crop_height, crop_width = preprocessing.size
    if height < crop_height or width < crop_width:
        remedy = (
            "raise data.preprocessing.resize" if preprocessing.resize is not None else "set data.preprocessing.resize"
        )
        raise DataError(
            f"{name} is {height} x {width} pixels (height x width) after resizing, smaller than the crop of"
            f" {crop_height} x {crop_width}; {remedy} to {max(crop_height, crop_width)} or more, or lower"
            " data.preprocessing.size"
        )
    return round((height - crop_height) / 2.0), round((width - crop_width) / 2.0)
