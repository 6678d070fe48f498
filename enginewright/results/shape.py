"""At which shape something was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enginewright.results.record import Record


@dataclass(frozen=True)
class SampleShape(Record):
    """The commonest shape of a set's samples."""

    inputs: Mapping[str, tuple[int, ...]]  # name -> what one sample feeds it, without the batch
    samples: int  # that have this shape
    of: int  # samples in the set
    shapes: int  # different ones

    def says(self) -> str:
        """Such as "images [3, 480, 640], the shape of 12 of 40 samples (3 shapes)"."""
        named = ", ".join(f"{name} {list(shape)}" for name, shape in self.inputs.items())
        if self.shapes == 1:
            return named
        return f"{named}, the shape of {self.samples} of {self.of} samples ({self.shapes} shapes)"
