"""What a pass over a source sees of its stored samples: which arrays there are, their dtypes, and how shapes vary."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from enginewright.config import DTYPES
from enginewright.data.columns import Shapes
from enginewright.errors import DataError
from enginewright.feeds import Array


@dataclass
class Seen:
    """One array, of samples that all have it in one dtype and rank."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # of the first sample
    count: int = 0
    # of every sample, flat, once two of them differ; before, nothing: memory stays flat where all are of one shape
    shapes: Optional[array[int]] = field(default=None)

    @property
    def ragged(self) -> bool:
        """Whether two samples differ in shape."""
        return self.shapes is not None

    def add(self, values: Array) -> None:
        """Take the next sample's."""
        if self.shapes is None and values.shape != self.shape:
            self.shapes = array("q", [*self.shape] * self.count)
        if self.shapes is not None:
            self.shapes.extend(values.shape)
        self.count += 1

    def of(self, rows: Any) -> Shapes:
        """The shapes of some samples, int64 [rows, rank]."""
        rank = len(self.shape)
        if self.shapes is None:
            return np.broadcast_to(np.array(self.shape, np.int64), (len(rows), rank))
        return np.asarray(np.frombuffer(self.shapes, np.int64).reshape(-1, rank)[rows])

    def extremes(self) -> list[list[int]]:
        """The least and the most of each axis."""
        shapes = self.of(slice(None))
        return [shapes.min(axis=0).tolist(), shapes.max(axis=0).tolist()]


class Observed:
    """All arrays of the samples of a source, by the file that they go to."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self.arrays: dict[str, Seen] = {}

    def add(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Look at one sample.

        Raises:
            DataError: it has other arrays than those before it, or one of another dtype or rank; with its name.
        """
        if not self.arrays:
            self.arrays = {stem: Seen(values.dtype, values.shape) for stem, values in arrays.items()}
            for stem, values in arrays.items():
                if values.dtype.name not in DTYPES:
                    raise DataError(
                        f"'{stem}' of {name} is {values.dtype}; an image set holds {', '.join(DTYPES)}: convert it"
                    )
        if arrays.keys() != self.arrays.keys():
            missing, beyond = sorted(self.arrays.keys() - arrays.keys()), sorted(arrays.keys() - self.arrays.keys())
            what = f"has no '{missing[0]}'" if missing else f"has '{beyond[0]}'"
            others = "have" if missing else "do not have"
            raise DataError(f"{name} {what}, which the samples before it {others}; give all samples the same")
        for stem, values in arrays.items():
            seen = self.arrays[stem]
            if (values.dtype, values.ndim) != (seen.dtype, len(seen.shape)):
                raise DataError(
                    f"'{stem}' of {name} is {values.dtype} {list(values.shape)}, and of the samples before it"
                    f" {seen.dtype} with {len(seen.shape)} axes; give all samples one dtype and number of axes"
                )
            seen.add(values)
