"""The recipe `none`: arrays go to the inputs of their names as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from enginewright.config import Preprocessing
from enginewright.data.recipes import Stored
from enginewright.data.samples import Sample
from enginewright.errors import DataError, nearest
from enginewright.feeds import Array


class AsItIs:
    """Arrays to inputs. See `Recipe`."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        """Nothing of it counts."""

    def store(self, sample: Sample) -> tuple[Stored, None]:
        """Take the sample's arrays, of any shape and dtype.

        Raises:
            DataError: it is an image.
        """
        arrays = sample.load()
        if not isinstance(arrays, Mapping):
            raise DataError(
                f"{sample.name} is an image, and data.preprocessing.recipe none feeds arrays as they are; choose what"
                " the model was trained with, such as whole for images of their own size"
            )
        return {name: np.asarray(array) for name, array in arrays.items()}, None

    def target(self, sample: Sample) -> Array:
        """Take the sample's target."""
        assert sample.target is not None  # asked for where the source has targets
        return np.asarray(sample.target())

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        """Pick the arrays with the names of the inputs; others are for nobody.

        Raises:
            DataError: there is none of a name.
        """
        missing = [name for name in inputs if name not in stored]
        if missing:
            raise DataError(
                f"the model takes '{missing[0]}', and the samples hold {', '.join(stored)}; name the arrays as the"
                f" model's inputs{nearest(missing[0], stored)}"
            )
        return {name: stored[name] for name in inputs}
