"""Images for the pipeline and the one preprocessing that calibration, validation, benchmark and the application share.

Importable on a target without PIL: only what decodes or resizes an image file needs it.
"""

from __future__ import annotations

from enginewright.data.feeding import Feeding
from enginewright.data.imageset import ImageSet
from enginewright.data.recipes import preprocess

__all__ = ["Feeding", "ImageSet", "preprocess"]
