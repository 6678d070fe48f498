"""The recipe `stretch`: height and width resized each on its own, whatever that does to the proportions."""

from __future__ import annotations

from enginewright.data.recipes import Fit, ImageRecipe


class Stretch(ImageRecipe):
    """Images to one input. See `Recipe`."""

    def fit(self, height: int, width: int, name: str) -> Fit:  # noqa: ARG002  every image fits
        """Fill the input."""
        return Fit(self.size, (0, 0), self.size)
