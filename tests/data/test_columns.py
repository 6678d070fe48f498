"""Arrays on disk with a row a sample: of one shape, or each of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from enginewright.config import DTYPES
from enginewright.data.columns import (
    Ragged,
    RowWriter,
    changes,
    described,
    first,
    name_of,
    open_column,
    shape_of,
    stem_of,
)

ROWS = [np.arange(6, dtype=np.float32).reshape(shape) for shape in ((2, 3), (2, 3), (3, 2), (6, 1))]


def test_a_ragged_array_gives_rows_of_one_shape_together_and_others_apart() -> None:
    ragged = Ragged.of(ROWS)
    assert (len(ragged), ragged.dtype.name) == (4, "float32")
    np.testing.assert_array_equal(ragged[:2], np.stack(ROWS[:2]))
    np.testing.assert_array_equal(ragged[np.array([3, 3])], np.stack([ROWS[3], ROWS[3]]))
    np.testing.assert_array_equal(ragged[[-1]][0], ROWS[3])
    uneven = ragged[1:]
    assert uneven.dtype == object
    for found, row in zip([*uneven, *ragged], [*ROWS[1:], *ROWS], strict=True):
        np.testing.assert_array_equal(found, row)
    assert [shape_of(ragged, row) for row in range(4)] == [(2, 3), (2, 3), (3, 2), (6, 1)]
    assert len(first(ragged, 2)) == 2


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        pytest.param([np.zeros((4, 2))], [], id="one shape"),
        pytest.param([Ragged.of(ROWS)], [2, 3], id="ragged"),
        pytest.param(
            [Ragged.of(ROWS), Ragged.of([np.zeros(size) for size in (1, 2, 2, 2)])], [1, 2, 3], id="two ragged"
        ),
        pytest.param([Ragged.of(ROWS[:2])], [], id="ragged, and alike"),
    ],
)
def test_where_the_shape_changes(columns: list[Any], found: list[int]) -> None:
    assert changes(columns).tolist() == found


def test_a_shape_with_what_varies() -> None:
    assert described(np.zeros((4, 2, 3))) == [4, 2, 3]
    assert described(Ragged.of([np.zeros((2, 3)), np.zeros((2, 4))])) == [2, 2, None]


@pytest.mark.parametrize("name", ["images", "input:0", "a/b", "x.shapes", "targets", "über", "%41", "geometry"])
def test_a_name_becomes_a_file_name_and_finds_back(name: str) -> None:
    stem = stem_of(name, ("targets", "geometry"))
    assert name_of(stem) == name
    assert stem not in ("targets", "geometry")
    assert not set(stem) & set("/.:")


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_written_in_any_order_are_read_again(tmp_path: Path, dtype: str) -> None:
    arrays: list[npt.NDArray[Any]] = [row.astype(dtype) for row in ROWS]
    with RowWriter(tmp_path / "fixed.npy", np.dtype(dtype), (2, 2, 3)) as writer:
        for row in (1, 0):
            writer.write(row, arrays[row])
    shapes = np.array([array.shape for array in arrays], np.int64)
    np.save(tmp_path / "ragged.shapes.npy", shapes)
    with RowWriter(tmp_path / "ragged.npy", np.dtype(dtype), [24], np.arange(0, 24, 6)) as writer:
        for row in (3, 1, 0, 2):
            writer.write(row, arrays[row])
    np.testing.assert_array_equal(open_column(tmp_path, "fixed")[:], np.stack(arrays[:2]))
    for found, array in zip(open_column(tmp_path, "ragged"), arrays, strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


def test_two_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(5))
    np.save(tmp_path / "x.shapes.npy", np.array([[2, 3]]))
    with pytest.raises(ValueError, match=r"x\.shapes\.npy is not of x\.npy"):
        open_column(tmp_path, "x")


def test_an_array_without_a_value_can_be_opened(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "x.npy", np.dtype(np.float32), (0, 3)):
        pass
    assert open_column(tmp_path, "x")[:].shape == (0, 3)
