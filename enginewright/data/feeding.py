"""The one road from disk to an engine: samples of an image set, by a recipe, in the dtype of each input.

Calibration, validation, benchmark and layer profile all take it, so they feed the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from enginewright.config import Preprocessing
from enginewright.data.imageset import ImageSet
from enginewright.data.recipes import IMAGES, recipe_of
from enginewright.feeds import Array, as_input
from enginewright.interface import TensorSpec


class Feeding:
    """An image set, and the recipe that makes feeds of it."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing) -> None:
        """`preprocessing`: the one that the set was prepared with."""
        self.images, self.preprocessing = images, preprocessing
        self._recipe = recipe_of(preprocessing)

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, rows: Union[slice, npt.NDArray[Any]], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
        """Return what these inputs are fed of the samples in these rows of the set, [rows, ...] each.

        Raises:
            DataError: the recipe does not make these inputs.
            EngineInputError: an input takes integers, and nothing says what they stand for.
        """
        stored = {IMAGES: np.asarray(self.images.pixels[rows])}
        made = self._recipe.feeds(stored, [spec.name for spec in inputs])
        return {spec.name: as_input(made[spec.name], spec) for spec in inputs}

    def batches(self, inputs: Sequence[TensorSpec], batch_size: int) -> Iterator[dict[str, Array]]:
        """Yield feeds of `batch_size` samples, in stored order; the last batch holds what is left."""
        for start in range(0, len(self), batch_size):
            yield self.rows(slice(start, start + batch_size), inputs)
