"""A source's samples into disjoint training, calibration, sensitivity and validation sets, one sample in memory at a
time.

Three passes over the source: hash all samples to find duplicates, and see what they are; write all sets but calibration
and look at the pool; write the calibration samples that were selected from it. What stays in memory for a sample is 25
bytes, the shape where shapes vary, and names and labels of the sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enginewright.config import Data, Selection
from enginewright.config.sources import AS_THEY_ARE
from enginewright.data.indexing import Index, index_source
from enginewright.data.recipes import recipe_of
from enginewright.data.samples import Source
from enginewright.data.selection import GRID, Rows, coverage_radius, interleave, select
from enginewright.data.writing import Output, Writing
from enginewright.errors import DataError
from enginewright.interface import TensorSpec


@dataclass(frozen=True)
class Split:
    """Positions in the source, disjoint, each in the order in which its set is stored."""

    training: Rows
    pool: Rows
    sensitivity: Rows
    validation: Rows


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


def prepare(
    source: Source,
    data: Data,
    seed: int,
    folders: dict[str, Path],
    output: Output,
    *,
    inputs: Sequence[TensorSpec] = (),
) -> dict[str, Any]:
    """Write the image sets.

    Args:
        source: where images come from.
        data: sizes, selection and preprocessing.
        seed: of the split, and of the selection where `data.selection_seed` is None.
        folders: "training", "calibration", "sensitivity" and "validation" -> folder.
        output: yields a temporary path for an artifact, then renames it and seals it with the given settings, which are
            filled in until then.
        inputs: what the model takes, as far as the configuration states it; samples that are arrays are held to it.

    Returns:
        Counts for the metrics.

    Raises:
        DataError: too few images, or a damaged one.
    """
    recipe = recipe_of(data.preprocessing)
    index = index_source(source, recipe, inputs if data.preprocessing.recipe == AS_THEY_ARE else ())
    split = split_source(index, data, seed, source.where)
    _require_thumbnails(data, index)
    writing = Writing(source, recipe, index, output)
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
        **({"class_order": source.class_order} if source.class_order else {}),
        "duplicates_removed": len(index.labels) - len(index.unique),
        "duplicates_with_another_label": index.conflicting_duplicates,
        "calibration_pool": len(split.pool),
        **radius,
        **{
            name: _counts(index.labels[rows], source, np.unique(index.labels))
            for name, rows in {**apart, "calibration": calibration}.items()
        },
    }


def _require_thumbnails(data: Data, index: Index) -> None:
    if data.selection is Selection.coverage and not index.shows_images:
        raise DataError(
            f"data.selection coverage compares images, and what data.preprocessing.recipe {data.preprocessing.recipe}"
            f" stores are none, or some are smaller than {GRID} pixels; choose stratified or random"
        )


def _counts(labels: Rows, source: Source, occurring: Rows) -> dict[str, int]:
    """Of the classes that images have: no image as a whole is `background`."""
    if not source.classes:
        return {"images": len(labels), "classes": 0}
    per_class = np.bincount(labels[labels >= 0], minlength=len(source.classes))[occurring[occurring >= 0]]
    return {
        "images": len(labels),
        "classes": len(source.classes),
        "images_per_class_min": int(per_class.min()),
        "images_per_class_max": int(per_class.max()),
    }
