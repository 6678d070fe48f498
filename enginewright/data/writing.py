"""Later passes over a source: rows of it to image sets on disk, each file of which is sealed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Optional

import numpy as np

from enginewright.data.columns import SHAPES, SUFFIX, RowWriter, name_of
from enginewright.data.imageset import (
    BESIDE,
    CLASSES,
    LABELS,
    ORDER,
    SET,
    SIZES,
    set_digest,
    write_classes,
    write_labels,
)
from enginewright.data.indexing import Index, digest_of, progress, stored_of
from enginewright.data.observed import Observed
from enginewright.data.recipes import IMAGES, Recipe
from enginewright.data.samples import Sample, Source
from enginewright.data.selection import Embedding, Rows, thumbnail
from enginewright.errors import DataError
from enginewright.feeds import Array

Output = Callable[
    [Path, "dict[str, Any]"], "AbstractContextManager[Path]"
]  # Stage.output, which seals with the settings that it finds at the end


class Writing:
    """Later passes over a source."""

    def __init__(self, source: Source, recipe: Recipe, index: Index, output: Output) -> None:
        """`index` says what the samples are."""
        self._source, self._recipe, self._index, self._output = source, recipe, index, output
        self._thumbnails = index.shows_images

    def write(self, sets: dict[Path, Rows], watch: Optional[Rows] = None) -> Embedding:
        """One pass that writes each set's rows to its folder; returns the thumbnails of the rows to `watch`, [N, D].

        Raises:
            DataError: the source does not give what it gave in the first pass.
        """
        watched = watch if watch is not None and self._thumbnails else ()
        thumbnails: dict[int, Embedding] = {}
        with ExitStack() as sealing:
            folders = [
                _Folder(folder, rows, self._index.observed, self._output, sealing) for folder, rows in sets.items()
            ]
            place = {int(position): (folder, row) for folder in folders for row, position in enumerate(folder.rows)}
            seen = {int(position): row for row, position in enumerate(watched)}
            with ExitStack() as stack:
                for folder in folders:
                    folder.begin(stack)
                for position, sample in enumerate(progress(self._source.samples(), "writing")):
                    if position not in place and position not in seen:
                        continue
                    stored = self._again(sample, position)
                    if position in place:
                        folder, row = place.pop(position)
                        folder.put(row, sample, stored)
                    else:
                        thumbnails[seen[position]] = thumbnail(stored[IMAGES])
            if place:
                raise DataError(_changed(f"ends before sample {min(place)}, which it had"))
            for folder in folders:
                folder.end(self._source)
        return np.array([thumbnails[row] for row in range(len(thumbnails))])

    def _again(self, sample: Sample, position: int) -> dict[str, Array]:
        stored = stored_of(sample, self._recipe)
        if digest_of(stored) != self._index.digests[position].tobytes():
            raise DataError(_changed(f"gives another sample at place {position} ({sample.name}) than it gave"))
        return stored


def _changed(how: str) -> str:
    return (
        f"the source {how} when it was read first, so that one sample could be in two sets; let it yield the same"
        " samples in the same order each time, and do not change files while prepare_data runs"
    )


class _Folder:
    """One set that is being written."""

    def __init__(self, path: Path, rows: Rows, observed: Observed, output: Output, sealing: ExitStack) -> None:
        """`rows` are places in the source. At the end of `sealing` its files are sealed."""
        self.rows, self._observed = rows, observed
        self._settings: dict[str, Any] = {}
        self._names, self._labels = [""] * len(rows), [0] * len(rows)
        files = [f"{stem}{SUFFIX}" for stem in observed.arrays]
        files += [f"{stem}{SHAPES}" for stem, seen in observed.arrays.items() if seen.ragged]
        self._paths = {
            name: sealing.enter_context(output(path / name, self._settings)) for name in (*files, LABELS, CLASSES)
        }
        self._writers: dict[str, RowWriter] = {}

    def begin(self, stack: ExitStack) -> None:
        """Make room for the arrays; at the end of `stack` they are written."""
        for stem, seen in self._observed.arrays.items():
            path, count = self._paths[f"{stem}{SUFFIX}"], len(self.rows)
            if seen.ragged:
                shapes = seen.of(self.rows)
                with self._paths[f"{stem}{SHAPES}"].open("wb") as stream:
                    np.lib.format.write_array(stream, shapes, (1, 0), allow_pickle=False)
                sizes = np.prod(shapes, axis=1, dtype=np.int64)
                writer = RowWriter(path, seen.dtype, [int(sizes.sum())], np.cumsum(sizes) - sizes)
            else:
                writer = RowWriter(path, seen.dtype, [count, *seen.shape])
            self._writers[stem] = stack.enter_context(writer)

    def put(self, row: int, sample: Sample, stored: dict[str, Array]) -> None:
        """Write one sample."""
        self._names[row], self._labels[row] = sample.name, sample.label
        for stem, values in stored.items():
            self._writers[stem].write(row, values)

    def end(self, source: Source) -> None:
        """Write labels and classes, and the hash over all files."""
        write_labels(self._paths[LABELS], self._names, self._labels)
        write_classes(self._paths[CLASSES], source.classes)
        self._settings[SET] = set_digest(self._paths)
        if source.class_order:
            self._settings[ORDER] = source.class_order
        varying = {stem: seen for stem, seen in self._observed.arrays.items() if seen.ragged and stem not in BESIDE}
        if varying:
            self._settings[SIZES] = {name_of(stem): seen.extremes() for stem, seen in varying.items()}
