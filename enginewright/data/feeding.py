"""The one road from disk to an engine: samples of an image set, by a recipe, in the dtype of each input.

Calibration, validation, benchmark and layer profile all take it, so they feed the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright.config import Layout, Preprocessing
from enginewright.data.imageset import ImageSet
from enginewright.data.recipes import recipe_of
from enginewright.errors import DataError
from enginewright.feeds import Array, as_input
from enginewright.interface import Axes, Interface, TensorSpec
from enginewright.results.shape import SampleShape

IMAGE_RANK = 4  # of a batch of images


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

    def size(self, feeds: Mapping[str, Array]) -> Optional[tuple[int, int]]:
        """Height and width in pixels of the first input that takes images; None where none of them does."""
        planes = next((array.shape[1:] for array in feeds.values() if array.ndim == IMAGE_RANK), None)
        if planes is None:
            return None
        return (planes[1], planes[2]) if self.preprocessing.layout is Layout.nchw else (planes[0], planes[1])

    def shape(self, inputs: Sequence[TensorSpec]) -> Optional[SampleShape]:
        """What a sample of the commonest shape feeds these inputs; None where there is no sample."""
        chosen = self.images.commonest()
        if not len(chosen):
            return None
        fed = self.rows(chosen[:1], inputs)
        shapes = {name: array.shape[1:] for name, array in fed.items()}
        return SampleShape(shapes, len(chosen), len(self), self.images.kinds())

    def require_within(self, interface: Interface, axes: Axes) -> None:
        """Raises DataError where a sample of the set, or of the source, has a size out of the range of its axis."""
        for piece in self.pieces(max(len(self), 1)):
            fed = self.rows(slice(piece.start, piece.start + 1), interface.inputs)
            for axis, size in interface.sizes({name: array.shape for name, array in fed.items()}).items():
                its = axes.get(axis)
                if its is not None and not its.min <= size <= its.max:
                    raise DataError(
                        f"the sample {self.images.names[piece.start]} has {axis} {size}, and axes.{axis} takes"
                        f" {its.min}"
                        f" to {its.max}; bring it to such a size, leave it out, or widen axes.{axis}"
                    )
        self._require_all_within(interface, axes)

    def _require_all_within(self, interface: Interface, axes: Axes) -> None:
        """The same of all samples that the source had, in the other sets too: which one is not known here."""
        for place, what in enumerate(("smallest", "largest") if self.images.sizes else ()):
            stored = {
                name: np.zeros((1, *self.images.sizes[name][place]), column.dtype)
                if name in self.images.sizes
                else column[:1]
                for name, column in self.images.arrays.items()
            }
            made = self._recipe.feeds(stored, [spec.name for spec in interface.inputs])
            for axis, size in interface.sizes({name: array.shape for name, array in made.items()}).items():
                its = axes.get(axis)
                if its is not None and not its.min <= size <= its.max:
                    raise DataError(
                        f"the {what} {axis} of a sample in the source is {size}, and axes.{axis} takes {its.min} to"
                        f" {its.max}; bring all samples to such sizes, leave others out, or widen axes.{axis}"
                    )

    def pieces(self, batch_size: int, inputs: Sequence[TensorSpec] = ()) -> Iterator[slice]:
        """Yield slices of consecutive samples of one shape, in stored order: at most `batch_size` at once, or as many
        as the inputs fix.

        Raises:
            DataError: the inputs fix how many, and the samples of a shape are no multiple of that.
        """
        fixed = next((spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], int)), None)
        for piece in self.images.pieces(fixed or batch_size):
            if fixed and piece.stop - piece.start != fixed:
                raise DataError(
                    f"the model takes {fixed} samples at once, and {len(self)} samples, or those of one shape, are no"
                    f" multiple of that; set their number to {max(len(self) // fixed, 1) * fixed}, or export the model"
                    " with a dynamic batch"
                )
            yield piece

    def batches(self, inputs: Sequence[TensorSpec], batch_size: int) -> Iterator[dict[str, Array]]:
        """Yield feeds of the samples in `pieces`."""
        for piece in self.pieces(batch_size, inputs):
            yield self.rows(piece, inputs)
