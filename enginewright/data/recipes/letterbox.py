"""The recipe `letterbox`: the whole image in its own proportions, and a border around it, as detectors are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from enginewright.config import Anchor, Rounding
from enginewright.data.recipes import Fit, ImageRecipe

WHOLE: Mapping[Rounding, Callable[[float], int]] = {
    Rounding.nearest: round,
    Rounding.down: int,
    Rounding.up: math.ceil,
}


class Letterbox(ImageRecipe):
    """Images to one input. See `Recipe`."""

    def fit(self, height: int, width: int, name: str) -> Fit:  # noqa: ARG002  every image fits
        """Resize by the smaller of the two ratios, an image that is too small as well; then centre it, or not.

        The products are rounded as they are in floating point, because ultralytics and YOLOX do so. An odd pixel of the
        border goes to the bottom and to the right.
        """
        wanted = self.size
        ratio = min(wanted[0] / height, wanted[1] / width)
        whole = WHOLE[self.preprocessing.rounding]
        made = _within(whole(height * ratio), wanted[0]), _within(whole(width * ratio), wanted[1])
        if self.preprocessing.anchor is Anchor.top_left:
            return Fit(made, (0, 0), wanted)
        return Fit(made, ((wanted[0] - made[0]) // 2, (wanted[1] - made[1]) // 2), wanted)


def _within(side: int, most: int) -> int:
    return min(max(side, 1), most)
