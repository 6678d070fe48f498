"""The user's images or arrays, as `enginewright init --onnx` finds them: how many there are, and who gets which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from enginewright.config import Data, Preprocessing, Selection
from enginewright.errors import ConfigError

DATA_FOLDER = "data"  # of the project, for what is copied there
FEWEST = 20  # samples: of fewer, no set says anything
MOST_VALIDATION, MOST_POOL, MOST_CALIBRATION, MOST_SENSITIVITY = 2000, 1000, 500, 300


@dataclass(frozen=True)
class Given:
    """What the command line says of the data."""

    folder: Path
    labels: Optional[Path] = None
    classes: Optional[Path] = None


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
    named = {name: path for name, path in beside.items() if path is not None}
    kind = "arrays" if is_arrays(given.folder) else "image_folder"
    files: dict[str, Any] = {name: str(path.resolve()) for name, path in named.items()}
    data = replace(Data(source=kind, root=str(given.folder.resolve()), preprocessing=preprocessing), **files)
    source = open_source(data)
    index = index_source(source, recipe_of(preprocessing))
    count, doubled = len(index.unique), len(index.labels) - len(index.unique)
    if count < FEWEST:
        raise ConfigError(f"--data {given.folder} holds {count} different samples; give {FEWEST} at least")
    sizes = shared(count)
    labelled = bool(len(index.labels)) and bool(index.labels.max() >= 0)
    options: dict[str, Any] = {"source": kind, "root": given.folder.resolve()}
    options.update({name: f"{DATA_FOLDER}/{path.name}" for name, path in named.items()})
    options.update(sizes)
    if not labelled:
        options["selection"] = Selection.random.name  # stratified goes by classes
    of = f" of {len(source.classes)} classes" if source.classes else "" if labelled else " without labels"
    said = (
        f"data: {given.folder}, {count} samples{of}" + (f", {doubled} duplicates left out" if doubled else ""),
        f"  {sizes['validation_images']} to validate, {sizes['calibration_images']} to calibrate (out of"
        f" {sizes['calibration_pool']}), {sizes['sensitivity_images']} to rank layers",
        *(f"  {note}" for note in source.notes),
    )
    return Found(options, source.classes, {f"{DATA_FOLDER}/{path.name}": path for path in named.values()}, said)


def shared(count: int) -> dict[str, int]:
    """Share samples out, as keys of `data`: half of them validate, the others calibrate and rank layers."""
    validation = min(count // 2, MOST_VALIDATION)
    sensitivity = min(count // 5, MOST_SENSITIVITY)
    pool = min(count - validation - sensitivity, MOST_POOL)
    return {
        "train_images": 0,
        "calibration_pool": pool,
        "calibration_images": min(pool, MOST_CALIBRATION),
        "sensitivity_images": sensitivity,
        "validation_images": validation,
    }
