"""A recipe: white is 0, black is 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enginewright.config import Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import Pixels
from enginewright.data.recipes import IMAGES, Stored
from enginewright.data.samples import Sample
from enginewright.feeds import Array


class Inverted:
    """Images [H, W] as they are."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        del preprocessing

    def store(self, sample: Sample) -> tuple[Stored, Geometry]:
        pixels = np.asarray(sample.load())
        return {IMAGES: pixels[..., None]}, Geometry((pixels.shape[0], pixels.shape[1]))

    def target(self, sample: Sample) -> Pixels:
        raise NotImplementedError

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        (name,) = inputs
        return {name: np.float32(1) - stored[IMAGES].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)}
