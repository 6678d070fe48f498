"""The recipe `whole`: each image at its own size, for models that take any height and width."""

from __future__ import annotations

from enginewright.data.recipes import Fit, ImageRecipe


class Whole(ImageRecipe):
    """Images to one input. See `Recipe`."""

    def fit(self, height: int, width: int, name: str) -> Fit:  # noqa: ARG002  every image fits
        """Leave the image as it is."""
        return Fit((height, width), (0, 0), (height, width))
