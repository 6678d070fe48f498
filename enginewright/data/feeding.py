"""The one road from disk to an engine: samples of an image set, by a recipe, in the dtype of each input.

Calibration, validation, benchmark and layer profile all take it, so they feed the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Union

import numpy.typing as npt

from enginewright.config import Preprocessing
from enginewright.data.imageset import ImageSet
from enginewright.data.recipes import recipe_of
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
            DataError: the recipe does not make these inputs, or the samples are of several shapes.
            EngineInputError: an input takes integers, and nothing says what they stand for.
        """
        made = self._recipe.feeds(self.images.rows(rows), [spec.name for spec in inputs])
        return {spec.name: as_input(made[spec.name], spec) for spec in inputs}

    def pieces(self, batch_size: int) -> Iterator[slice]:
        """Yield slices of consecutive samples of one shape, at most `batch_size` at once, in stored order."""
        return self.images.pieces(batch_size)

    def batches(self, inputs: Sequence[TensorSpec], batch_size: int) -> Iterator[dict[str, Array]]:
        """Yield feeds of at most `batch_size` samples of one shape, in stored order."""
        for piece in self.pieces(batch_size):
            yield self.rows(piece, inputs)
