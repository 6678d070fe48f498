"""How a sample becomes what a model is fed: one module for each recipe, found by the name `data.preprocessing.recipe`.

A recipe has two steps, and the image sets hold what lies between. `store` decodes and cuts a sample, once, on the host,
with whatever decoder it needs. `feeds` scales and lays out, anywhere, with NumPy alone. So a target needs no decoder,
and sees the same bytes as the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Union, cast

import numpy as np

from enginewright.config import Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import AnyImage, Batch, Pixels
from enginewright.data.samples import UNLABELLED, Sample
from enginewright.errors import DataError
from enginewright.feeds import Array, as_input
from enginewright.interface import TensorSpec
from enginewright.registry import RECIPES

IMAGES = "images"  # the one array that an image set stores: uint8 [N, H, W, C]
Stored = Mapping[str, Array]


class Recipe(Protocol):
    """What an object in the registry `enginewright.recipes` returns when it is called with `data.preprocessing`."""

    shapes: Mapping[str, tuple[int, ...]]  # what `store` makes of a sample: name -> shape; today uint8 IMAGES alone

    def store(self, sample: Sample) -> tuple[Stored, Geometry]:
        """Decode and cut a sample. Raises DataError if it cannot be read, or does not fit."""

    def target(self, sample: Sample) -> Pixels:
        """Cut the sample's classes by pixel as `store` cuts the sample. Raises DataError if that is not possible."""

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        """Make what the inputs of these names are fed, [N, ...] each, of stored samples [N, ...].

        Raises:
            DataError: the recipe makes other inputs, or the stored samples are not what `store` makes.
        """


def recipe_of(preprocessing: Preprocessing) -> Recipe:
    """Return the recipe of a configuration. Raises ConfigError if there is none of that name."""
    return cast(Callable[[Preprocessing], Recipe], RECIPES.get(preprocessing.recipe))(preprocessing)


def preprocess(images: Union[AnyImage, Iterable[AnyImage]], preprocessing: Preprocessing) -> Batch:
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
    (batch,) = recipe.feeds(_stored(images, recipe), ("input",)).values()
    return batch


def feeds_of(
    images: Union[AnyImage, Iterable[AnyImage]], preprocessing: Preprocessing, inputs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """Make what inputs are fed, by name and in their dtypes, of images as `preprocess` takes them. Raises as it."""
    recipe = recipe_of(preprocessing)
    made = recipe.feeds(_stored(images, recipe), [spec.name for spec in inputs])
    return {spec.name: as_input(made[spec.name], spec) for spec in inputs}


def _stored(images: Union[AnyImage, Iterable[AnyImage]], recipe: Recipe) -> Stored:
    one = (
        isinstance(images, (str, Path))
        or not isinstance(images, Iterable)
        or (isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype == np.uint8)
    )
    many: Iterable[AnyImage] = [images] if one else images  # type: ignore[list-item,assignment]
    stored = [recipe.store(_sample(image))[0] for image in many]
    if not stored:
        raise DataError("there is no image to preprocess; give at least one")
    return {name: np.stack([arrays[name] for arrays in stored]) for name in stored[0]}


def _sample(image: AnyImage) -> Sample:
    return Sample("the image", UNLABELLED, lambda: Path(image) if isinstance(image, str) else image)
