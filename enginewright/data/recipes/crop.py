"""The recipe `crop`: the shorter side resized, a window cut out, each channel scaled and normalized."""

from __future__ import annotations

from enginewright.config import Anchor
from enginewright.data.recipes import Fit, ImageRecipe
from enginewright.errors import DataError


class Crop(ImageRecipe):
    """Images to one input. See `Recipe`."""

    keep_masks = "set data.preprocessing.resize to null, or bring images of that size"

    def fit(self, height: int, width: int, name: str) -> Fit:
        """Round as torchvision's Resize does (the longer side is cut down to whole pixels), and its CenterCrop.

        Raises:
            DataError: the image is smaller than the crop. Nothing is padded: borders would shift the calibration.
        """
        side, short = self.preprocessing.resize, min(height, width)
        if side is not None and side != short:
            height, width = (max(int(side * edge / short), side) for edge in (height, width))
        wanted = self.size
        if height < wanted[0] or width < wanted[1]:
            remedy = "set data.preprocessing.resize" if side is None else "raise data.preprocessing.resize"
            raise DataError(
                f"{name} is {height} x {width} pixels (height x width) after resizing, smaller than the crop of"
                f" {wanted[0]} x {wanted[1]}; {remedy} to {max(wanted)} or more, or lower data.preprocessing.size"
            )
        if self.preprocessing.anchor is Anchor.top_left:
            return Fit((height, width), (0, 0), wanted)
        return Fit((height, width), (-round((height - wanted[0]) / 2.0), -round((width - wanted[1]) / 2.0)), wanted)
