"""The first pass over a source: what its samples are, which are the same, and all that cannot be used of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from enginewright.data.columns import stem_of
from enginewright.data.imageset import BESIDE, GEOMETRY, TARGETS
from enginewright.data.named import require_inputs
from enginewright.data.observed import Observed
from enginewright.data.recipes import IMAGES, Recipe
from enginewright.data.samples import Sample, Source
from enginewright.data.selection import GRID, Rows
from enginewright.data.walk import MOST_NAMED
from enginewright.errors import DataError
from enginewright.feeds import Array
from enginewright.interface import TensorSpec

DIGEST_BYTES = 16  # 2^64 images before a collision is likely


@dataclass(frozen=True)
class Index:
    """What the first pass finds out about every sample of a source."""

    labels: Rows  # [N]
    held_out: npt.NDArray[np.bool_]  # [N]
    unique: Rows  # positions of the first sample of each distinct content, ascending
    conflicting_duplicates: int  # duplicates whose label is not that of their first sample
    digests: npt.NDArray[Any]  # [N], of what each holds
    observed: Observed  # by the file that an array goes to

    @property
    def shows_images(self) -> bool:
        """Whether samples are images that thumbnails can be compared of."""
        seen = self.observed.arrays.get(IMAGES)
        if seen is None or seen.dtype != np.uint8 or len(seen.shape) != 3:
            return False
        return not seen.ragged or int(seen.of(slice(None))[:, :2].min()) >= GRID


def index_source(source: Source, recipe: Recipe, inputs: Sequence[TensorSpec] = ()) -> Index:
    """First pass: store every sample once, keep a digest of it.

    Args:
        source: all of its samples are read.
        recipe: stores them.
        inputs: what each sample must be, if it is arrays by these names; where nothing states it, none.

    Raises:
        DataError: on all samples that cannot be used, together with the files of a kind that is not read.
    """
    labels, held_out, digests, observed = array("q"), bytearray(), bytearray(), Observed()
    faults, apart = Faults(source.unknown), {True: "", False: ""}  # the first sample with a label, and without
    for sample in progress(source.samples(), "reading"):
        labels.append(sample.label)
        held_out.append(sample.held_out)
        try:
            stored = stored_of(sample, recipe, inputs)
            observed.add(sample.name, stored)
        except DataError as fault:
            faults.add(str(fault))
            continue
        if sample.boxes is None:  # an image may show nothing
            apart[sample.label >= 0] = apart[sample.label >= 0] or sample.name
        digests += digest_of(stored)
    faults.raise_them(len(labels))
    if all(apart.values()):
        raise DataError(
            f"{apart[False]} has no label, and {apart[True]} has one; give all samples of the source a label, or none"
        )
    label_array = np.frombuffer(labels, np.int64) if labels else np.empty(0, np.int64)
    keys = np.frombuffer(bytes(digests), f"V{DIGEST_BYTES}")
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    conflicting = int(np.count_nonzero(label_array != label_array[first[inverse.reshape(-1)]])) if len(keys) else 0
    return Index(label_array, np.frombuffer(bytes(held_out), np.bool_), np.sort(first), conflicting, keys, observed)


class Faults:
    """What cannot be used of a source, told together."""

    def __init__(self, unknown: Mapping[str, Sequence[Path]]) -> None:
        """`unknown`: files that may be samples, in a format that is not read: what they end with -> the files."""
        self._unknown, self._first, self._count = unknown, list[str](), 0

    def add(self, sentence: str) -> None:
        """Count a sample that cannot be used, and keep the first sentences."""
        self._count += 1
        if self._count <= MOST_NAMED:
            self._first.append(sentence)

    def raise_them(self, samples: int) -> None:
        """Raise DataError if there is a fault; `samples` is how many were read."""
        if not self._unknown and self._count <= 1:
            if self._first:
                raise DataError(self._first[0])
            return
        kinds = [_of_kind(suffix, paths) for suffix, paths in sorted(self._unknown.items())]
        total = self._count + sum(map(len, self._unknown.values()))
        parts = [f"{self._count} of {samples} samples: {'; '.join(self._first)}"] if self._count else []
        if self._count > len(self._first):
            parts[0] += f"; and {self._count - len(self._first)} more"
        if kinds:
            parts.append(
                f"in formats that are not read: {', '.join(kinds)}; convert them, or take them out of data.root"
            )
        files = "1 file" if total == 1 else f"{total} files or samples"
        raise DataError(f"{files} cannot be used; {'; '.join(parts)}")


def _of_kind(suffix: str, paths: Sequence[Path]) -> str:
    more = ", ..." if len(paths) > MOST_NAMED else ""
    return f"{len(paths)} {suffix} ({', '.join(map(str, paths[:MOST_NAMED]))}{more})"


def stored_of(sample: Sample, recipe: Recipe, inputs: Sequence[TensorSpec] = ()) -> dict[str, Array]:
    """A sample by the files that its arrays go to; `inputs` are what these must be. Raises DataError."""
    arrays, geometry = recipe.store(sample)
    if inputs:
        require_inputs(sample.name, arrays, inputs)
    found = {stem_of(name, BESIDE): np.asarray(values) for name, values in arrays.items()}
    if sample.target is not None:
        found[TARGETS] = np.asarray(recipe.target(sample))
    if sample.boxes is not None:
        found[TARGETS] = np.asarray(sample.boxes(), np.float64)  # in pixels of the image, whatever the recipe does
    if geometry is not None:
        found[GEOMETRY] = geometry.to_row()
    return found


def digest_of(stored: dict[str, Array]) -> bytes:
    """The digest of what the model is fed."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for stem in sorted(stored):
        if stem not in BESIDE:
            digest.update(f"{stem} {stored[stem].shape} ".encode() + stored[stem].tobytes())
    return digest.digest()


def progress(samples: Iterable[Sample], doing: str) -> Iterable[Sample]:
    """The samples, with a bar that says what is done."""
    from rich.console import Console
    from rich.progress import track

    return track(samples, description=f"{doing} samples", console=Console(stderr=True), transient=True)
