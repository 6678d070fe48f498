"""A source's samples into disjoint training, calibration, sensitivity and validation sets, one sample in memory at a
time.

Three passes over the source: hash all samples to find duplicates, and see what they are; write all sets but calibration
and look at the pool; write the calibration samples that were selected from it. What stays in memory for a sample is 25
bytes, the shape where shapes vary, and names and labels of the sets.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Data, Selection
from enginewright.data.columns import SHAPES, SUFFIX, RowWriter, stem_of
from enginewright.data.imageset import (
    BESIDE,
    CLASSES,
    GEOMETRY,
    LABELS,
    SET,
    TARGETS,
    set_digest,
    write_classes,
    write_labels,
)
from enginewright.data.observed import Observed
from enginewright.data.recipes import IMAGES, Recipe, recipe_of
from enginewright.data.samples import Sample, Source
from enginewright.data.selection import GRID, Embedding, Rows, coverage_radius, interleave, select, thumbnail
from enginewright.errors import DataError
from enginewright.feeds import Array

DIGEST_BYTES = 16  # 2^64 images before a collision is likely
Output = Callable[
    [Path, "dict[str, Any]"], "AbstractContextManager[Path]"
]  # Stage.output, which seals with the settings that it finds at the end


@dataclass(frozen=True)
class Index:
    """What the first pass finds out about every sample of a source."""

    labels: Rows  # [N]
    held_out: npt.NDArray[np.bool_]  # [N]
    unique: Rows  # positions of the first sample of each distinct content, ascending
    conflicting_duplicates: int  # duplicates whose label is not that of their first sample
    digests: npt.NDArray[Any]  # [N], of what each holds
    observed: Observed  # by the file that an array goes to


@dataclass(frozen=True)
class Split:
    """Positions in the source, disjoint, each in the order in which its set is stored."""

    training: Rows
    pool: Rows
    sensitivity: Rows
    validation: Rows


def index_source(source: Source, recipe: Recipe) -> Index:
    """First pass: store every sample once, keep a digest of it. Raises DataError on a damaged one."""
    labels, held_out, digests, observed = array("q"), bytearray(), bytearray(), Observed()
    for sample in _progress(source.samples(), "reading"):
        stored = _stored(sample, recipe)
        observed.add(sample.name, stored)
        labels.append(sample.label)
        held_out.append(sample.held_out)
        digests += _digest(stored)
    label_array = np.frombuffer(labels, np.int64) if labels else np.empty(0, np.int64)
    keys = np.frombuffer(bytes(digests), f"V{DIGEST_BYTES}")
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    conflicting = int(np.count_nonzero(label_array != label_array[first[inverse.reshape(-1)]])) if len(keys) else 0
    apart = np.frombuffer(bytes(held_out), np.bool_)
    return Index(label_array, apart, np.sort(first), conflicting, keys, observed)


def _stored(sample: Sample, recipe: Recipe) -> dict[str, Array]:
    """A sample by the files that its arrays go to."""
    arrays, geometry = recipe.store(sample)
    found = {stem_of(name, BESIDE): np.asarray(values) for name, values in arrays.items()}
    if sample.target is not None:
        found[TARGETS] = np.asarray(recipe.target(sample))
    if geometry is not None:
        found[GEOMETRY] = geometry.to_row()
    return found


def _digest(stored: dict[str, Array]) -> bytes:
    """Of what the model is fed."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for stem in sorted(stored):
        if stem not in BESIDE:
            digest.update(f"{stem} {stored[stem].shape} ".encode() + stored[stem].tobytes())
    return digest.digest()


def split_source(index: Index, data: Data, seed: int, where: str) -> Split:
    """Draw disjoint sets by `seed`, stratified where there are labels.

    Validation comes first, then training, the pool and the sensitivity images: the size of a later one changes no
    earlier one, so that asking for other calibration images leaves the training set, and the trained model, as they
    are. `where` names the source in messages.

    Raises:
        DataError: with how many images there are and how many are needed.
    """
    removed = len(index.labels) - len(index.unique)
    duplicates = f" after {removed} duplicates are left out" if removed else ""
    rng = np.random.default_rng(seed)
    rows = index.unique[rng.permutation(len(index.unique))]
    rows = rows[interleave(index.labels[rows])]
    apart = index.held_out[rows]
    wanted = {
        "data.train_images": data.train_images,
        "data.calibration_pool": data.calibration_pool,
        "data.sensitivity_images": data.sensitivity_images,
        "data.validation_images": data.validation_images,
    }
    if apart.any():
        validation, rest = rows[apart], rows[~apart]
        _need(
            len(validation),
            {"data.validation_images": wanted.pop("data.validation_images")},
            f"{where} sets apart for validation{duplicates}",
        )
        _need(len(rest), wanted, f"{where} holds for training and calibration{duplicates}")
        validation = validation[: data.validation_images]
    else:
        _need(len(rows), wanted, f"{where} holds{duplicates}")
        validation, rest = rows[: data.validation_images], rows[data.validation_images :]
    training, pool, sensitivity, _ = np.split(
        rest, np.cumsum([data.train_images, data.calibration_pool, data.sensitivity_images])
    )
    return Split(training, pool, sensitivity, validation)


def _need(available: int, wanted: dict[str, int], where: str) -> None:
    needed = sum(wanted.values())
    if available < needed:
        asked = " + ".join(f"{key} {count}" for key, count in wanted.items())
        found = "there is 1 image" if available == 1 else f"there are {available} images"
        raise DataError(
            f"{needed} images are needed ({asked}) and {found} in what {where}; lower these settings or add images"
        )


def prepare(source: Source, data: Data, seed: int, folders: dict[str, Path], output: Output) -> dict[str, Any]:
    """Write the image sets.

    Args:
        source: where images come from.
        data: sizes, selection and preprocessing.
        seed: of the split, and of the selection where `data.selection_seed` is None.
        folders: "training", "calibration", "sensitivity" and "validation" -> folder.
        output: yields a temporary path for an artifact, then renames it and seals it with the given settings, which are
            filled in until then.

    Returns:
        Counts for the metrics.

    Raises:
        DataError: too few images, or a damaged one.
    """
    recipe = recipe_of(data.preprocessing)
    index = index_source(source, recipe)
    split = split_source(index, data, seed, source.where)
    _require_thumbnails(data, index)
    writing = _Writing(source, recipe, index, output)
    apart = {"training": split.training, "sensitivity": split.sensitivity, "validation": split.validation}
    embedding = writing.write({folders[name]: rows for name, rows in apart.items()}, watch=split.pool)
    chosen = select(
        data.selection,
        data.calibration_images,
        index.labels[split.pool],
        embedding,
        seed if data.selection_seed is None else data.selection_seed,
    )
    calibration = split.pool[chosen]
    writing.write({folders["calibration"]: calibration})
    radius = {"coverage_radius_gray_levels": round(coverage_radius(embedding, chosen), 4)} if embedding.size else {}
    return {
        "source_images": len(index.labels),
        "ignored_files": source.ignored,
        "duplicates_removed": len(index.labels) - len(index.unique),
        "duplicates_with_another_label": index.conflicting_duplicates,
        "calibration_pool": len(split.pool),
        **radius,
        **{
            name: _counts(index.labels[rows], source, np.unique(index.labels))
            for name, rows in {**apart, "calibration": calibration}.items()
        },
    }


def _shows_images(index: Index) -> bool:
    """Whether samples are images that thumbnails can be compared of."""
    seen = index.observed.arrays.get(IMAGES)
    smallest = GRID if seen is None or not seen.ragged else int(seen.of(slice(None))[:, :2].min())
    return seen is not None and seen.dtype == np.uint8 and len(seen.shape) == 3 and smallest >= GRID


def _require_thumbnails(data: Data, index: Index) -> None:
    if data.selection is Selection.coverage and not _shows_images(index):
        raise DataError(
            f"data.selection coverage compares images, and what data.preprocessing.recipe {data.preprocessing.recipe}"
            f" stores are none, or some are smaller than {GRID} pixels; choose stratified or random"
        )


def _counts(labels: Rows, source: Source, occurring: Rows) -> dict[str, int]:
    """Of the classes that images have: no image as a whole is `background`."""
    if not source.classes:
        return {"images": len(labels), "classes": 0}
    per_class = np.bincount(labels, minlength=len(source.classes))[occurring]
    return {
        "images": len(labels),
        "classes": len(source.classes),
        "images_per_class_min": int(per_class.min()),
        "images_per_class_max": int(per_class.max()),
    }


class _Writing:
    """Later passes over a source."""

    def __init__(self, source: Source, recipe: Recipe, index: Index, output: Output) -> None:
        """`index` says what the samples are."""
        self._source, self._recipe, self._index, self._output = source, recipe, index, output
        self._thumbnails = _shows_images(index)

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
                for position, sample in enumerate(_progress(self._source.samples(), "writing")):
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
                folder.end(self._source.classes)
        return np.array([thumbnails[row] for row in range(len(thumbnails))])

    def _again(self, sample: Sample, position: int) -> dict[str, Array]:
        stored = _stored(sample, self._recipe)
        if _digest(stored) != self._index.digests[position].tobytes():
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

    def end(self, classes: Sequence[str]) -> None:
        """Write labels and classes, and the hash over all files."""
        write_labels(self._paths[LABELS], self._names, self._labels)
        write_classes(self._paths[CLASSES], classes)
        self._settings[SET] = set_digest(self._paths)


def _progress(samples: Iterable[Sample], doing: str) -> Iterable[Sample]:
    from rich.console import Console
    from rich.progress import track

    return track(samples, description=f"{doing} images", console=Console(stderr=True), transient=True)
