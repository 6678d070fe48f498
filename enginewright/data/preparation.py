"""A source's images into disjoint training, calibration, sensitivity and validation sets, one image in memory at a
time.

Three passes over the source: hash all pixels to find duplicates; write all sets but calibration and look at the pool;
write the calibration images that were selected from it. What stays in memory for an image is 25 bytes, and names and
labels of the sets.
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

from enginewright.config import Data
from enginewright.data.imageset import (
    CLASSES,
    IMAGES,
    LABELS,
    TARGETS,
    RowWriter,
    set_digest,
    write_classes,
    write_labels,
)
from enginewright.data.preprocessing import Pixels
from enginewright.data.recipes import IMAGES as STORED, Recipe, recipe_of
from enginewright.data.samples import Sample, Source
from enginewright.data.selection import Embedding, Rows, coverage_radius, interleave, select, thumbnail
from enginewright.errors import DataError

DIGEST_BYTES = 16  # 2^64 images before a collision is likely
Output = Callable[
    [Path, "dict[str, Any]"], "AbstractContextManager[Path]"
]  # Stage.output, which seals with the settings that it finds at the end


@dataclass(frozen=True)
class Index:
    """What the first pass finds out about every image of a source."""

    labels: Rows  # [N]
    held_out: npt.NDArray[np.bool_]  # [N]
    unique: Rows  # positions of the first image of each distinct pixel content, ascending
    conflicting_duplicates: int  # duplicates whose label is not that of their first image


@dataclass(frozen=True)
class Split:
    """Positions in the source, disjoint, each in the order in which its set is stored."""

    training: Rows
    pool: Rows
    sensitivity: Rows
    validation: Rows


def index_source(source: Source, recipe: Recipe) -> Index:
    """First pass: decode every image once, keep a digest of its pixels. Raises DataError on a damaged image."""
    labels, held_out, digests = array("q"), bytearray(), bytearray()
    for sample in _progress(source.samples(), "reading"):
        labels.append(sample.label)
        held_out.append(sample.held_out)
        digests += blake2b(_pixels(sample, recipe).tobytes(), digest_size=DIGEST_BYTES).digest()
    label_array = np.frombuffer(labels, np.int64) if labels else np.empty(0, np.int64)
    keys = np.frombuffer(bytes(digests), f"V{DIGEST_BYTES}")
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    conflicting = int(np.count_nonzero(label_array != label_array[first[inverse.reshape(-1)]])) if len(keys) else 0
    return Index(label_array, np.frombuffer(bytes(held_out), np.bool_), np.sort(first), conflicting)


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
    apart = {"training": split.training, "sensitivity": split.sensitivity, "validation": split.validation}
    embedding = _write_sets(
        source, recipe, {folders[name]: rows for name, rows in apart.items()}, output, watch=split.pool
    )
    chosen = select(
        data.selection,
        data.calibration_images,
        index.labels[split.pool],
        embedding,
        seed if data.selection_seed is None else data.selection_seed,
    )
    calibration = split.pool[chosen]
    _write_sets(source, recipe, {folders["calibration"]: calibration}, output)
    return {
        "source_images": len(index.labels),
        "ignored_files": source.ignored,
        "duplicates_removed": len(index.labels) - len(index.unique),
        "duplicates_with_another_label": index.conflicting_duplicates,
        "calibration_pool": len(split.pool),
        "coverage_radius_gray_levels": round(coverage_radius(embedding, chosen), 4),
        **{
            name: _counts(index.labels[rows], source, np.unique(index.labels))
            for name, rows in {**apart, "calibration": calibration}.items()
        },
    }


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


def _write_sets(
    source: Source, recipe: Recipe, sets: dict[Path, Rows], output: Output, watch: Optional[Rows] = None
) -> Embedding:
    """One pass over the source that writes each set's rows to its folder; returns the thumbnails of the rows to
    `watch`, [N, D].
    """
    place = {int(position): (folder, row) for folder, rows in sets.items() for row, position in enumerate(rows)}
    watched = {int(position): row for row, position in enumerate(watch)} if watch is not None else {}
    thumbnails: dict[int, Embedding] = {}
    names = {folder: [""] * len(rows) for folder, rows in sets.items()}
    labels = {folder: [0] * len(rows) for folder, rows in sets.items()}
    files = (IMAGES, LABELS, CLASSES, *([TARGETS] if source.by_pixel else []))
    with ExitStack() as sealing:
        belongs: dict[Path, dict[str, Any]] = {folder: {} for folder in sets}
        paths = {
            folder: {name: sealing.enter_context(output(folder / name, belongs[folder])) for name in files}
            for folder in sets
        }
        with ExitStack() as stack:

            def writer(folder: Path, name: str, shape: Sequence[int]) -> RowWriter:
                return stack.enter_context(RowWriter(paths[folder][name], len(names[folder]), shape))

            shape = recipe.shapes[STORED]
            writers = {folder: writer(folder, IMAGES, shape) for folder in sets}
            target_writers = {folder: writer(folder, TARGETS, shape[:2]) for folder in sets if source.by_pixel}
            for position, sample in enumerate(_progress(source.samples(), "writing")):
                if position in place:
                    folder, row = place[position]
                    names[folder][row], labels[folder][row] = sample.name, sample.label
                    writers[folder].write(row, _pixels(sample, recipe))
                    if sample.target is not None:
                        target_writers[folder].write(row, recipe.target(sample))
                elif position in watched:
                    thumbnails[watched[position]] = thumbnail(_pixels(sample, recipe))
        for folder, written in paths.items():
            write_labels(written[LABELS], names[folder], labels[folder])
            write_classes(written[CLASSES], source.classes)
            belongs[folder]["set"] = set_digest(written.values())
    return np.array([thumbnails[row] for row in range(len(thumbnails))])


def _pixels(sample: Sample, recipe: Recipe) -> Pixels:
    return recipe.store(sample)[0][STORED]


def _progress(samples: Iterable[Sample], doing: str) -> Iterable[Sample]:
    from rich.console import Console
    from rich.progress import track

    return track(samples, description=f"{doing} images", console=Console(stderr=True), transient=True)
