"""A set of stored samples on disk, each file of it sealed. Memory stays flat both ways.

Every named array is a file, or two where it is ragged (`columns`). Beside them lie labels.csv and classes.json, and
where there are any targets.npy and geometry.npy. The sidecar of each file holds the same hash over all of them, so that
the arrays of one run are never taken for those that the labels of another belong to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright import manifest
from enginewright.data import columns
from enginewright.data.columns import SHAPES, SUFFIX, Column
from enginewright.data.geometry import Geometry
from enginewright.errors import DataError, StaleArtifact
from enginewright.feeds import Array
from enginewright.manifest import Manifest

LABELS, CLASSES = "labels.csv", "classes.json"
TARGETS, GEOMETRY = "targets", "geometry"
BESIDE = (TARGETS, GEOMETRY)  # file names, without their suffix, that no array of the model's has
# the setting that says, where shapes vary, the least and most of each axis in the whole source: name -> two shapes
SIZES = "sizes"
ORDER = "class_order"  # the setting that says what the order of the classes is from (`classes.ClassOrder`)
SET = "set"  # the setting in the sidecars that holds the hash over all files
ORIGIN = (SET, "source", "root", "seed")  # settings in the sidecars that are the same for all files of a set
IGNORED = 255  # a pixel whose class is unknown or shall not count, as in PASCAL VOC


@dataclass(frozen=True)
class ImageSet:
    """Samples as a recipe stores them, with their names and what is known of them."""

    arrays: Mapping[str, Column]  # name -> a row a sample; images are `recipes.IMAGES`, uint8 [N, H, W, C]
    labels: Optional[npt.NDArray[np.int64]]  # [N], indices into `classes`; None when unlabelled
    classes: tuple[str, ...]
    names: tuple[str, ...]
    files: list[Path]  # for manifests; those of the arrays first
    # what the task is asked about each sample, as for each pixel an index into `classes` or IGNORED; None without
    targets: Optional[Column] = None
    geometry: Optional[npt.NDArray[np.float64]] = None  # [N, 6], of `Geometry.to_row`; None without
    class_order: str = ""  # what says that `classes` are in the order of the model's outputs; empty if nothing does
    # where shapes vary, the least and the most of each axis in the whole source, without the samples: name -> both
    sizes: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def varies(self) -> bool:
        """Whether samples differ in shape."""
        return bool(len(columns.changes(list(self.arrays.values()))))

    def rows(self, rows: Union[slice, npt.NDArray[np.int64]]) -> dict[str, Array]:
        """Return some samples, [rows, ...] of each array.

        Raises:
            DataError: they are of several shapes.
        """
        found = {name: np.asarray(column[rows]) for name, column in self.arrays.items()}
        for name, array in found.items():
            if array.dtype == object:
                raise DataError(
                    f"the samples of a batch have one shape, and '{name}' of those asked for has several; ask for one"
                    " piece of `pieces` at a time"
                )
        return found

    def pieces(self, size: int) -> Iterator[slice]:
        """Yield slices of consecutive samples of one shape, at most `size` at once: all samples, in stored order."""
        edges = [0, *columns.changes(list(self.arrays.values())).tolist(), len(self)]
        for begin, end in zip(edges, edges[1:]):
            for start in range(begin, end, size):
                yield slice(start, min(start + size, end))

    def kinds(self) -> int:
        """How many different shapes the samples have."""
        ragged = [column.shapes for column in self.arrays.values() if isinstance(column, columns.Ragged)]
        return len(np.unique(np.concatenate(ragged, axis=1), axis=0)) if ragged else 1

    def commonest(self) -> npt.NDArray[np.int64]:
        """Return the samples of the commonest shape, in stored order; of two as common, that of the first sample."""
        ragged = [column.shapes for column in self.arrays.values() if isinstance(column, columns.Ragged)]
        if not ragged or not len(self):
            return np.arange(len(self))
        _, first, which, counts = np.unique(
            np.concatenate(ragged, axis=1), axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        chosen = max(range(len(counts)), key=lambda index: (counts[index], -first[index]))
        return np.flatnonzero(which.reshape(-1) == chosen)

    def geometries(self, rows: slice) -> list[Geometry]:
        """Where the images of some rows lie in the input; empty where that is not known."""
        return [] if self.geometry is None else [Geometry.from_row(row) for row in self.geometry[rows]]

    def first(self, count: int) -> ImageSet:
        """The first `count` samples: sets are stored with the classes in their proportion in every stretch."""
        return replace(
            self,
            arrays={name: columns.first(column, count) for name, column in self.arrays.items()},
            labels=None if self.labels is None else self.labels[:count],
            names=self.names[:count],
            targets=None if self.targets is None else columns.first(self.targets, count),
            geometry=None if self.geometry is None else self.geometry[:count],
        )

    @property
    def array_files(self) -> list[Path]:
        """The files of the arrays."""
        beside = {f"{stem}{suffix}" for stem in BESIDE for suffix in (SUFFIX, SHAPES)}
        return [file for file in self.files if file.suffix == SUFFIX and file.name not in beside]

    def forget(self) -> None:
        """Give back the memory that was read so far."""
        for column in (*self.arrays.values(), self.targets):
            if column is not None:
                columns.forget(column)

    @classmethod
    def open(cls, folder: Path) -> ImageSet:
        """Verify the sidecars, and that the files belong together; then map the arrays.

        Raises:
            StaleArtifact: a file or its sidecar is missing or changed, or two files are of different sets.
            DataError: there are more labels than samples, or fewer.
        """
        import pandas as pd

        stems = _stems(folder)
        parts = [f"{stem}{suffix}" for stem in stems for suffix in (SUFFIX, SHAPES)]
        files = [folder / name for name in parts if not name.endswith(SHAPES) or _exists(folder / name)]
        files += [folder / LABELS, folder / CLASSES]
        made = {file: manifest.verify(file) for file in files}
        _require_one_set(folder, made)
        found = {stem: _opened(folder, stem) for stem in stems}
        table = pd.read_csv(folder / LABELS, dtype={"name": str, "label": np.int64}, keep_default_na=False)
        classes = tuple(json.loads((folder / CLASSES).read_text()))
        arrays = {columns.name_of(stem): found[stem] for stem in stems if stem not in BESIDE}
        _require_as_many(folder, found, len(table))
        labels = table["label"].to_numpy(np.int64)
        return cls(
            arrays,
            labels if (len(labels) and labels.max() >= 0) or (classes and not len(labels)) else None,
            classes,
            tuple(table["name"]),
            files,
            found.get(TARGETS),
            np.asarray(found[GEOMETRY]) if GEOMETRY in found else None,
            str(made[files[0]].settings.get(ORDER, "")),
            dict(made[files[0]].settings.get(SIZES, {})),
        )


def _exists(path: Path) -> bool:
    return path.exists() or manifest.sidecar(path).exists()  # one without the other is refused when it is verified


def _stems(folder: Path) -> list[str]:
    """The arrays that lie in a folder, those of the model's inputs first."""
    names = {path.name for path in folder.glob("*") if path.name.endswith((SUFFIX, f"{SUFFIX}.json"))}
    stems = sorted({name.partition(".")[0] for name in names})
    if all(stem in BESIDE for stem in stems):
        stems.append("images")  # what is missing is named when it is verified
    return [*(stem for stem in stems if stem not in BESIDE), *(stem for stem in BESIDE if stem in stems)]


def _opened(folder: Path, stem: str) -> Column:
    try:
        return columns.open_column(folder, stem)
    except ValueError as fault:
        raise DataError(f"{folder}: {fault}; run `dvc repro -f prepare_data`") from None


def _require_as_many(folder: Path, found: Mapping[str, Column], samples: int) -> None:
    for stem, column in found.items():
        if len(column) != samples:
            raise DataError(
                f"{folder} holds {len(column)} rows of '{columns.name_of(stem)}' and {samples} labels; run `dvc repro"
                " -f prepare_data`"
            )


def _require_one_set(folder: Path, made: Mapping[Path, Manifest]) -> None:
    first, *others = made
    for other in others:
        differing = [name for name in ORIGIN if made[first].settings.get(name) != made[other].settings.get(name)]
        if differing:
            raise StaleArtifact(
                f"{other} does not belong to {first} ({', '.join(differing)} differ); run `dvc repro -f prepare_data`"
                f" to make {folder} again"
            )
    whole = made[first].settings.get(SET)
    if whole is not None and whole != _digest({file.name: its.sha256 for file, its in made.items()}):
        raise StaleArtifact(
            f"{folder} does not hold the files that were written together: one is missing, or of another set; run `dvc"
            " repro -f prepare_data` to make it again"
        )


def set_digest(files: Mapping[str, Path]) -> str:
    """What the sidecar of each file of a set holds: one hash over all of them, by the names that they will have."""
    return _digest({name: manifest.sha256(file) for name, file in files.items()})


def _digest(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {digests[name]}\n" for name in sorted(digests)).encode()).hexdigest()


def write_labels(path: Path, names: Sequence[str], labels: Sequence[int]) -> None:
    """Write labels.csv: name,label; the label -1 stands for unlabelled."""
    import pandas as pd

    pd.DataFrame({"name": names, "label": labels}).to_csv(path, index=False, lineterminator="\n")


def write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write classes.json: the names in the order of the labels; empty when unlabelled."""
    path.write_text(json.dumps(list(classes), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
