"""The recipe `crop`: the shorter side resized, the centre cut out, each channel scaled and normalized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from enginewright.config import Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import Pixels, cropped, pixel_shape, to_input, to_target
from enginewright.data.recipes import IMAGES, Stored
from enginewright.data.samples import Sample
from enginewright.errors import DataError
from enginewright.feeds import Array


class Crop:
    """Images to one input. See `Recipe`."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        """`preprocessing`: all of it counts."""
        self._preprocessing = preprocessing
        self.shapes: Mapping[str, tuple[int, ...]] = {IMAGES: pixel_shape(preprocessing)}

    def store(self, sample: Sample) -> tuple[Stored, Geometry]:
        """See `Recipe` and `preprocessing.cropped`: uint8 [H, W, C]."""
        image = sample.load()
        pixels, geometry = cropped(image, self._preprocessing, str(image) if isinstance(image, Path) else sample.name)
        return {IMAGES: pixels}, geometry

    def target(self, sample: Sample) -> Pixels:
        """See `Recipe` and `preprocessing.to_target`: uint8 [H, W]."""
        assert sample.target is not None  # asked for where the source has targets by pixel
        return to_target(sample.target(), self._preprocessing, sample.name)

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        """See `Recipe` and `preprocessing.to_input`: float32 [N, C, H, W], or [N, H, W, C] for layout nhwc."""
        if len(inputs) != 1:
            raise DataError(
                f"data.preprocessing.recipe crop makes one input of an image, and the model has {len(inputs)}"
                f" ({', '.join(inputs)}); choose a recipe that makes them all"
            )
        return {inputs[0]: to_input(stored[IMAGES], self._preprocessing)}
