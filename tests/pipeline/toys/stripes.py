"""A source: level and upright stripes with noise, as many as a file in `data.root` says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from enginewright.config import Data
from enginewright.data.preprocessing import Pixels
from enginewright.data.samples import Sample, Source

SIDE = 8


def stripes(data: Data, project: Path) -> Source:
    """Read the number, and draw."""
    count = int((project / data.root / "count.txt").read_text())

    def samples() -> Iterator[Sample]:
        for index in range(count):
            yield Sample(f"{index:03}", index % 2, partial(_draw, index))

    return Source(("level", "upright"), samples, "the stripes")


def _draw(index: int) -> Pixels:
    noise = np.random.default_rng(index).integers(0, 100, (SIDE, SIDE), dtype=np.uint8)
    noise[::2] += 100
    return noise.T.copy() if index % 2 else noise
