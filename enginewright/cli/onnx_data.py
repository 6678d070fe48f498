"""The user's images or arrays, as `enginewright init --onnx` finds them: how many there are, and who gets which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from enginewright.config import Data, Preprocessing, Selection
from enginewright.errors import ConfigError

DATA_FOLDER = "data"  # of the project, for what is copied there
FEWEST = 20  # samples: of fewer, no set says anything
COCO_LISTS = ("images", "annotations", "categories")
WITH_BOXES = ("coco", "yolo_labels")  # sources
IMAGE_FOLDER, LABEL_FOLDER = "images", "labels"  # of YOLO's layout
MOST_NAMED = 3
MOST_VALIDATION, MOST_POOL, MOST_CALIBRATION, MOST_SENSITIVITY = 2000, 1000, 500, 300


@dataclass(frozen=True)
class Given:
    """What the command line says of the data."""

    folder: Path
    labels: Optional[Path] = None
    classes: Optional[Path] = None
    boxes: bool = False  # whether the task asks for boxes


@dataclass(frozen=True)
class Place:
    """Where samples lie, and who reads them."""

    source: str
    root: Path
    labels: Optional[Path] = None


@dataclass(frozen=True)
class Found:
    """What conf/data/<name>.yaml holds, and what to tell the user."""

    options: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    copies: Mapping[str, Path] = field(default_factory=dict)  # path in the project -> file
    said: tuple[str, ...] = ()


def is_arrays(folder: Path) -> bool:
    """Whether a folder holds arrays, not images.

    Raises:
        ConfigError: it is no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data {folder} is no folder; give one of images, or of one .npz a sample")
    return next(folder.rglob("*.npz"), None) is not None


def read(given: Given, preprocessing: Preprocessing) -> Found:
    """Look at every sample as prepare_data does, and share them out.

    Raises:
        ConfigError: a file is missing, or there are too few samples.
        DataError: a sample cannot be read, or does not fit.
    """
    from enginewright.data.indexing import index_source
    from enginewright.data.recipes import recipe_of
    from enginewright.data.sources import open_source

    beside = {"labels": given.labels, "classes": given.classes}
    for name, path in beside.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"--{name} {path} is no file; give one, or leave it out")
    place = _with_boxes(given) if given.boxes and not is_arrays(given.folder) else _without_boxes(given)
    beside["labels"] = place.labels
    named = {name: path for name, path in beside.items() if path is not None}
    files: dict[str, Any] = {name: str(path.resolve()) for name, path in named.items()}
    data = replace(Data(source=place.source, root=str(place.root.resolve()), preprocessing=preprocessing), **files)
    source = open_source(data)
    index = index_source(source, recipe_of(preprocessing))
    count, doubled = len(index.unique), len(index.labels) - len(index.unique)
    if count < FEWEST:
        raise ConfigError(f"--data {given.folder} holds {count} different samples; give {FEWEST} at least")
    sizes = shared(count, int(index.held_out[index.unique].sum()))
    labelled = bool(len(index.labels)) and bool(index.labels.max() >= 0)
    options: dict[str, Any] = {"source": place.source, "root": place.root.resolve()}
    options.update({name: f"{DATA_FOLDER}/{path.name}" for name, path in named.items()})
    options.update(sizes)
    if not labelled:
        options["selection"] = Selection.random.name  # stratified goes by classes
    of = f" of {len(source.classes)} classes" if source.classes else "" if labelled else " without labels"
    if place.source in WITH_BOXES:
        of += f", boxes by {place.labels or place.root / LABEL_FOLDER}"
    said = (
        f"data: {given.folder}, {count} samples{of}" + (f", {doubled} duplicates left out" if doubled else ""),
        f"  {sizes['validation_images']} to validate, {sizes['calibration_images']} to calibrate (out of"
        f" {sizes['calibration_pool']}), {sizes['sensitivity_images']} to rank layers",
        *(f"  {note}" for note in source.notes),
    )
    return Found(options, source.classes, {f"{DATA_FOLDER}/{path.name}": path for path in named.values()}, said)


def _without_boxes(given: Given) -> Place:
    return Place("arrays" if is_arrays(given.folder) else "image_folder", given.folder, given.labels)


def _with_boxes(given: Given) -> Place:
    """COCO's JSON, named or found; else YOLO's text files; else images without labels.

    Raises:
        ConfigError: several files are COCO's, or the one named is not.
    """
    if given.labels is not None:
        if not _is_coco(given.labels):
            raise ConfigError(
                f"--labels {given.labels} is not COCO's JSON of instances, which a detector's boxes are read from; give"
                f" that, or --data a folder with {IMAGE_FOLDER}/ and {LABEL_FOLDER}/, as ultralytics lays data out"
            )
        return Place("coco", _root_of(given.labels, given.folder), given.labels)
    found = [
        path for path in sorted(given.folder.glob("*.json")) + sorted(given.folder.glob("*/*.json")) if _is_coco(path)
    ]
    if len(found) > 1:
        names = ", ".join(str(path) for path in found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
        raise ConfigError(
            f"--data {given.folder} holds {len(found)} JSON files of boxes ({names}); choose with --labels"
        )
    if found:
        return Place("coco", _root_of(found[0], given.folder), found[0])
    if (given.folder / IMAGE_FOLDER).is_dir() and (given.folder / LABEL_FOLDER).is_dir():
        return Place("yolo_labels", given.folder)
    return Place("image_folder", given.folder)


def _is_coco(path: Path) -> bool:
    """Whether a file is an object with the lists of COCO's instances."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in COCO_LISTS)


def _root_of(labels: Path, folder: Path) -> Path:
    """The folder in which the names of the JSON begin: the one given, or one below it; the one given if none is."""
    first = next((entry for entry in json.loads(labels.read_bytes())["images"] if isinstance(entry, dict)), {})
    name = str(first.get("file_name", ""))
    below = (path for path in sorted(folder.iterdir()) if path.is_dir())
    return next((root for root in (folder, *below) if name and (root / name).is_file()), folder)


def shared(count: int, apart: int = 0) -> dict[str, int]:
    """Share samples out, as keys of `data`: half of them validate, the others calibrate and rank layers.

    Args:
        count: of all.
        apart: of those that the source sets apart; then these validate.
    """
    validation = min(apart or count // 2, MOST_VALIDATION)
    rest = count - (apart or validation)
    sensitivity = min(count // 5, rest // 2, MOST_SENSITIVITY)
    pool = min(rest - sensitivity, MOST_POOL)
    return {
        "train_images": 0,
        "calibration_pool": pool,
        "calibration_images": min(pool, MOST_CALIBRATION),
        "sensitivity_images": sensitivity,
        "validation_images": validation,
    }
