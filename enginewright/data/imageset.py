"""A set of preprocessed images on disk: images.npy, labels.csv, classes.json, each sealed. Memory stays flat both ways.

Where the source knows a class for each pixel, targets.npy lies beside them. The sidecar of each file holds the same
hash over all of them, so that the images of one run are never taken for those that the labels of another belong to.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Optional

import numpy as np
import numpy.typing as npt

from enginewright import manifest
from enginewright.data.preprocessing import Pixels
from enginewright.errors import DataError, StaleArtifact
from enginewright.manifest import Manifest

IMAGES, LABELS, CLASSES, TARGETS = "images.npy", "labels.csv", "classes.json", "targets.npy"
ORIGIN = ("set", "source", "root", "seed")  # settings in the sidecars that are the same for all files of a set
IGNORED = 255  # a pixel whose class is unknown or shall not count, as in PASCAL VOC


@dataclass(frozen=True)
class ImageSet:
    """Images as the model is fed them but for scale and normalization, with their names and labels."""

    pixels: Pixels  # uint8 [N, H, W, C], mapped from disk: reading a batch reads that batch
    labels: Optional[npt.NDArray[np.int64]]  # [N], indices into `classes`; None when unlabelled
    classes: tuple[str, ...]
    names: tuple[str, ...]
    files: list[Path]  # for manifests
    # uint8 [N, H, W], an index into `classes` or IGNORED for each pixel, mapped from disk; None without
    targets: Optional[Pixels] = None

    def __len__(self) -> int:
        return len(self.names)

    def forget(self) -> None:
        """Give back the memory that was read so far: it is mapped from disk, and is read again where it is needed."""
        for array in (self.pixels, self.targets):
            mapped = getattr(array, "_mmap", None)  # of an np.memmap, and of a part of one
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    @classmethod
    def open(cls, folder: Path) -> ImageSet:
        """Verify the sidecars, and that the files belong together; then map the pixels.

        Raises:
            StaleArtifact: a file or its sidecar is missing or changed, or two files are of different sets.
            DataError: there are more labels than images, or fewer.
        """
        import pandas as pd

        files = [folder / name for name in (IMAGES, LABELS, CLASSES)]
        by_pixel = (folder / TARGETS).exists() or manifest.sidecar(
            folder / TARGETS
        ).exists()  # one without the other is refused below
        files += [folder / TARGETS] if by_pixel else []
        _require_one_set(folder, {file: manifest.verify(file) for file in files})
        pixels, targets = _mapped(files[0]), _mapped(files[-1]) if by_pixel else None
        table = pd.read_csv(files[1], dtype={"name": str, "label": np.int64}, keep_default_na=False)
        classes = tuple(json.loads(files[2].read_text()))
        if len(pixels) != len(table):
            raise DataError(
                f"{folder} holds {len(pixels)} images and {len(table)} labels; run `dvc repro -f prepare_data`"
            )
        if targets is not None and targets.shape != pixels.shape[:3]:
            raise DataError(
                f"{folder} holds images {list(pixels.shape)} and targets {list(targets.shape)}; run `dvc repro -f"
                " prepare_data`"
            )
        labels = table["label"].to_numpy(np.int64)
        return cls(pixels, labels if classes else None, classes, tuple(table["name"]), files, targets)


def _require_one_set(folder: Path, made: Mapping[Path, Manifest]) -> None:
    first, *others = made
    for other in others:
        differing = [name for name in ORIGIN if made[first].settings.get(name) != made[other].settings.get(name)]
        if differing:
            raise StaleArtifact(
                f"{other} does not belong to {first} ({', '.join(differing)} differ); run `dvc repro -f prepare_data`"
                f" to make {folder} again"
            )


def set_digest(files: Iterable[Path]) -> str:
    """What the sidecar of each file of a set holds: one hash over all of them."""
    return hashlib.sha256("".join(manifest.sha256(file) for file in files).encode()).hexdigest()


def _mapped(path: Path) -> Pixels:
    # an empty array cannot be mapped: mmap(2) refuses a length of 0
    array: Pixels = np.load(path, mmap_mode="r") if np.prod(_npy_shape(path)) else np.load(path)
    return array


def _npy_shape(path: Path) -> tuple[int, ...]:
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        return np.lib.format.read_array_header_1_0(stream)[0]


class RowWriter:
    """Writes the rows of an .npy file in any order, one at a time.

    Not `numpy.lib.format.open_memmap`: its pages stay in this process's resident memory until the kernel wants them
    back.
    """

    def __init__(self, path: Path, rows: int, shape: Sequence[int]) -> None:
        """Write the header of an array uint8 [rows, *shape]; use in a `with` block."""
        self._stream: BinaryIO = path.open("wb")
        header: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
            "fortran_order": False,
            "shape": (rows, *shape),
        }
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._start = self._stream.tell()
        self._size = int(np.prod(shape))

    def write(self, row: int, pixels: Pixels) -> None:
        """Write one image, uint8 [H, W, C], or its targets, uint8 [H, W]."""
        self._stream.seek(self._start + row * self._size)
        self._stream.write(pixels.tobytes())

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], fault: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stream.close()


def write_labels(path: Path, names: Sequence[str], labels: Sequence[int]) -> None:
    """Write labels.csv: name,label; the label -1 stands for unlabelled."""
    import pandas as pd

    pd.DataFrame({"name": names, "label": labels}).to_csv(path, index=False, lineterminator="\n")


def write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write classes.json: the names in the order of the labels; empty when unlabelled."""
    path.write_text(json.dumps(list(classes), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
