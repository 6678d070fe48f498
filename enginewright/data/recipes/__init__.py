"""How a sample becomes what a model is fed: one module for each recipe, found by the name `data.preprocessing.recipe`.

A recipe has two steps, and the image sets hold what lies between. `store` decodes and cuts a sample, once, on the host,
with whatever decoder it needs. `feeds` scales and lays out, anywhere, with NumPy alone. So a target needs no decoder,
and sees the same bytes as the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol, Union, cast

import numpy as np

from enginewright.config import ChannelOrder, Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.data.imageset import IGNORED
from enginewright.data.preprocessing import AnyImage, Batch, Pixels, decoded, ordered, to_input
from enginewright.data.resizing import resized
from enginewright.data.samples import UNLABELLED, Sample
from enginewright.errors import DataError
from enginewright.feeds import Array, as_input
from enginewright.interface import TensorSpec
from enginewright.registry import RECIPES

IMAGES = "images"  # the array that recipes for images store: uint8 [N, H, W, C]
Stored = Mapping[str, Array]
AnySample = Union[AnyImage, Stored]


class Recipe(Protocol):
    """What an object in the registry `enginewright.recipes` returns when it is called with `data.preprocessing`."""

    def store(self, sample: Sample) -> tuple[Stored, Optional[Geometry]]:
        """Decode and cut a sample: named arrays, of any shape, and where the image lies in them if it is one.

        All samples have the same names, dtypes and ranks, and the sample decides nothing else of them.

        Raises:
            DataError: it cannot be read, or does not fit.
        """

    def target(self, sample: Sample) -> Array:
        """Cut the sample's target as `store` cuts the sample. Raises DataError if that is not possible."""

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        """Make what the inputs of these names are fed, [N, ...] each, of stored samples [N, ...].

        Raises:
            DataError: the recipe makes other inputs, or the stored samples are not what `store` makes.
        """


@dataclass(frozen=True)
class Fit:
    """How an image lies in the input, in pixels; pairs are (y, x)."""

    resized: tuple[int, int]
    offset: tuple[int, int]  # of the resized image; negative where a part of it is cut off
    size: tuple[int, int]  # of the input


class ImageRecipe:
    """What the recipes for images share: they differ in `fit`, and make one input of an image."""

    keep_masks = "choose recipe crop, or bring images of that size"  # what to do where a mask would be resized

    def __init__(self, preprocessing: Preprocessing) -> None:
        """`preprocessing`: all of it counts."""
        self.preprocessing = preprocessing
        height, width = preprocessing.size
        self.size = (height, width)

    def fit(self, height: int, width: int, name: str) -> Fit:
        """Say where an image of this size goes. Raises DataError, with the image's name, if it does not fit."""
        raise NotImplementedError

    def store(self, sample: Sample) -> tuple[Stored, Geometry]:
        """Decode an image, resize it and put it in its place: uint8 [height, width, C]. See `Recipe`."""
        image = sample.load()
        name = str(image) if isinstance(image, Path) else sample.name
        if isinstance(image, Mapping):
            raise DataError(
                f"{name} is arrays ({', '.join(image)}), and recipe {self.preprocessing.recipe} takes images; set"
                " data.preprocessing.recipe to none, which feeds arrays as they are"
            )
        pixels = decoded(image, self.preprocessing, name, sample.most_pixels)
        height, width = pixels.shape[:2]
        fit = self.fit(height, width, name)
        levels = self.preprocessing.pad[:: -1 if self.preprocessing.channels is ChannelOrder.bgr else 1]
        placed = _placed(resized(pixels, fit.resized, self.preprocessing, name), fit, levels)
        scale = fit.resized[0] / height, fit.resized[1] / width
        return {IMAGES: ordered(placed, self.preprocessing)}, Geometry((height, width), scale, fit.offset)

    def target(self, sample: Sample) -> Pixels:
        """Put the classes of an image's pixels where `store` puts the image: uint8 [height, width].

        Raises:
            DataError: they are not uint8 [H, W], or would have to be resized: between two classes there is nothing.
        """
        assert sample.target is not None  # asked for where the source has targets by pixel
        mask = sample.target()
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise DataError(
                f"the targets of {sample.name} must be uint8 [H, W] and are {mask.dtype} {list(mask.shape)}"
            )
        fit = self.fit(mask.shape[0], mask.shape[1], sample.name)
        if fit.resized != mask.shape:
            raise DataError(f"{sample.name} has targets by pixel, which are not resized: {self.keep_masks}")
        return np.ascontiguousarray(_placed(mask, fit, IGNORED))

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        """See `Recipe` and `preprocessing.to_input`: float32 [N, C, H, W], or [N, H, W, C] for layout nhwc."""
        if len(inputs) != 1:
            raise DataError(
                f"data.preprocessing.recipe {self.preprocessing.recipe} makes one input of an image, and the model has"
                f" {len(inputs)} ({', '.join(inputs)}); feed arrays of these names, with data.source arrays and recipe"
                " none"
            )
        return {inputs[0]: to_input(stored[IMAGES], self.preprocessing)}


def _placed(pixels: Pixels, fit: Fit, border: Union[int, Sequence[int]]) -> Pixels:
    """Cut off what lies outside, and fill what nothing covers. Returns a view where there is nothing to fill."""
    (top, left), (height, width) = fit.offset, fit.size
    seen = pixels[max(-top, 0) : height - top, max(-left, 0) : width - left]
    if seen.shape[:2] == fit.size:
        return seen
    placed = np.empty((*fit.size, *pixels.shape[2:]), np.uint8)
    placed[...] = border
    top, left = max(top, 0), max(left, 0)
    placed[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return placed


def recipe_of(preprocessing: Preprocessing) -> Recipe:
    """Return the recipe of a configuration. Raises ConfigError if there is none of that name."""
    return cast(Callable[[Preprocessing], Recipe], RECIPES.get(preprocessing.recipe))(preprocessing)


def preprocess(images: Union[AnySample, Iterable[AnySample]], preprocessing: Preprocessing) -> Batch:
    """Make a batch for the engine from what an application has at hand.

    Args:
        images: one or several of: path of an image file, PIL image, uint8 array [H, W] (gray) or [H, W, 3] (RGB;
            OpenCV's BGR must be turned round first: `image[..., ::-1]`). A uint8 array [N, H, W, C] counts as N images.
        preprocessing: the one declaration, `params.data.preprocessing`.

    Returns:
        float32 [N, C, H, W], or [N, H, W, C] for layout nhwc; equal to what calibration and validation fed for the same
        files.

    Raises:
        DataError: an image cannot be read, is smaller than the crop, or is no image.
    """
    recipe = recipe_of(preprocessing)
    (batch,) = recipe.feeds(_stored(images, recipe)[0], ("input",)).values()
    return batch


def feeds_of(
    images: Union[AnySample, Iterable[AnySample]], preprocessing: Preprocessing, inputs: Sequence[TensorSpec]
) -> tuple[dict[str, Array], list[Geometry]]:
    """Make what inputs are fed, by name and in their dtypes, of images as `preprocess` takes them. Raises as it.

    Returns:
        The feeds, and of each image where it lies in them.
    """
    recipe = recipe_of(preprocessing)
    stored, geometries = _stored(images, recipe)
    made = recipe.feeds(stored, [spec.name for spec in inputs])
    return {spec.name: as_input(made[spec.name], spec) for spec in inputs}, geometries


def _stored(images: Union[AnySample, Iterable[AnySample]], recipe: Recipe) -> tuple[Stored, list[Geometry]]:
    one = (
        isinstance(images, (str, Path))
        or not isinstance(images, Iterable)
        or isinstance(images, Mapping)
        or (isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype == np.uint8)
    )
    many: Iterable[AnySample] = [images] if one else images  # type: ignore[list-item,assignment]
    made = [recipe.store(_sample(image)) for image in many]
    if not made:
        raise DataError("there is no image to preprocess; give at least one")
    stored = {name: [arrays[name] for arrays, _ in made] for name in made[0][0]}
    for name, arrays in stored.items():
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            one, other, *_ = sorted(shapes)
            raise DataError(
                f"a batch has one shape, and of '{name}' there are {list(one)} and {list(other)}; preprocess those of"
                " one shape at a time"
            )
    return {name: np.stack(arrays) for name, arrays in stored.items()}, [where for _, where in made if where]


def _sample(image: AnySample) -> Sample:
    return Sample("the image", UNLABELLED, lambda: Path(image) if isinstance(image, str) else image)
