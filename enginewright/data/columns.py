"""Arrays with a row for each sample, mapped from disk: all rows of one shape, or each of its own.

An array of one shape is one .npy file [N, ...]. A ragged one is two: its values one after the other, and int64
[N, rank], the shape of each row.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Optional, Union
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from enginewright.feeds import Array

SUFFIX, SHAPES = ".npy", ".shapes.npy"
Rows = Union[slice, Sequence[int], npt.NDArray[Any]]
Shapes = npt.NDArray[np.int64]


class Ragged:
    """Rows of one dtype and rank, each of its own shape."""

    def __init__(self, values: Array, shapes: Shapes) -> None:
        """`values`: [total], those of the first row first. `shapes`: [N, rank]."""
        self._values, self.shapes = values, shapes
        self._ends = np.cumsum(np.prod(shapes, axis=1, dtype=np.int64))

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> Ragged:
        """Put arrays of one dtype and rank together, in memory."""
        shapes = np.array([array.shape for array in arrays], np.int64).reshape(len(arrays), -1)
        return cls(np.concatenate([array.ravel() for array in arrays]), shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[Array]:
        return (self._row(row) for row in range(len(self)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of every row."""
        return self._values.dtype

    def __getitem__(self, rows: Rows) -> Array:
        """Return rows, [rows, ...]; where their shapes differ, [rows] objects that are an array each."""
        chosen = range(*rows.indices(len(self))) if isinstance(rows, slice) else [int(row) for row in rows]
        found = [self._row(row) for row in chosen]
        if len({array.shape for array in found}) == 1:
            return np.stack(found)
        uneven = np.empty(len(found), object)
        for place, array in enumerate(found):
            uneven[place] = array
        return uneven

    def first(self, count: int) -> Ragged:
        """The first `count` rows."""
        return Ragged(self._values, self.shapes[:count])

    def forget(self) -> None:
        """See the function `forget`."""
        forget(self._values)

    def _row(self, row: int) -> Array:
        row = row + len(self) if row < 0 else row
        end = int(self._ends[row])
        shape = tuple(self.shapes[row].tolist())
        return np.asarray(self._values[end - int(np.prod(shape, dtype=np.int64)) : end]).reshape(shape)


Column = Union[Array, Ragged]


def forget(column: Column) -> None:
    """Give back the memory that was read so far: what is mapped from disk is read again where it is needed."""
    if isinstance(column, Ragged):
        column.forget()
        return
    mapped = getattr(column, "_mmap", None)  # of an np.memmap, and of a part of one
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def first(column: Column, count: int) -> Column:
    """The first `count` rows."""
    return column.first(count) if isinstance(column, Ragged) else column[:count]


def shape_of(column: Column, row: int) -> tuple[int, ...]:
    """The shape of one row."""
    return tuple(column.shapes[row].tolist()) if isinstance(column, Ragged) else column.shape[1:]


def described(column: Column) -> list[Optional[int]]:
    """The shape of the whole, [N, ...]; None where rows differ."""
    if not isinstance(column, Ragged):
        return list(column.shape)
    alike = (column.shapes == column.shapes[:1]).all(axis=0)
    return [len(column), *(int(size) if same else None for size, same in zip(column.shapes[0], alike))]


def changes(columns: Sequence[Column]) -> npt.NDArray[np.int64]:
    """Rows, ascending, whose shape in any of these columns is not that of the row before."""
    ragged = [column.shapes for column in columns if isinstance(column, Ragged)]
    if not ragged:
        return np.empty(0, np.int64)
    shapes = np.concatenate(ragged, axis=1)
    return np.flatnonzero((shapes[1:] != shapes[:-1]).any(axis=1)) + 1


def stem_of(name: str, reserved: Sequence[str] = ()) -> str:
    """The file name of an array without its suffix: it holds no dot, and is none of the reserved ones."""
    stem = quote(name, safe="").replace(".", "%2E")
    return f"%{ord(stem[0]):02X}{stem[1:]}" if stem in reserved else stem


def name_of(stem: str) -> str:
    """Inverse of `stem_of`."""
    return unquote(stem)


def open_column(folder: Path, stem: str) -> Column:
    """Map an array from disk. Raises ValueError if its two files do not fit each other."""
    values = _mapped(folder / f"{stem}{SUFFIX}")
    if not (folder / f"{stem}{SHAPES}").exists():
        return values
    shapes = np.load(folder / f"{stem}{SHAPES}", allow_pickle=False)
    if shapes.ndim != 2 or values.ndim != 1 or int(np.prod(shapes, axis=1).sum()) != len(values):
        raise ValueError(f"{stem}{SHAPES} is not of {stem}{SUFFIX}")
    return Ragged(values, shapes)


def _mapped(path: Path) -> Array:
    # an empty array cannot be mapped: mmap(2) refuses a length of 0
    filled = np.prod(_npy_shape(path))
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False) if filled else np.load(path, allow_pickle=False)
    return array


def _npy_shape(path: Path) -> tuple[int, ...]:
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        return np.lib.format.read_array_header_1_0(stream)[0]


class RowWriter:
    """Writes the rows of an array in any order, one at a time.

    Not `numpy.lib.format.open_memmap`: its pages stay in this process's resident memory until the kernel wants them
    back.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], whole: Sequence[int], starts: Optional[Shapes] = None) -> None:
        """Write the header; use in a `with` block.

        Args:
            path: of the .npy file.
            dtype: of the values.
            whole: shape of the file's array.
            starts: of a ragged array, whose file has one dimension: where the values of each row begin, [N].
        """
        self._itemsize, self._size, self._starts = dtype.itemsize, int(np.prod(whole[1:], dtype=np.int64)), starts
        self._stream: BinaryIO = path.open("wb")
        header: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": tuple(whole),
        }
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._start = self._stream.tell()

    def write(self, row: int, values: Array) -> None:
        """Write one row, of the shape that it was given room for."""
        place = row * self._size if self._starts is None else int(self._starts[row])
        self._stream.seek(self._start + place * self._itemsize)
        self._stream.write(values.tobytes())

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], fault: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stream.close()
