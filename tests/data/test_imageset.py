"""Sets of samples of one shape and of several: pieces, the commonest shape, and the way to disk and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright.config import Preprocessing, Selection
from enginewright.data import ImageSet
from enginewright.data.columns import Ragged
from enginewright.data.geometry import Geometry
from enginewright.data.preparation import prepare
from enginewright.data.recipes import IMAGES, Stored
from enginewright.data.samples import Sample, Source
from enginewright.errors import DataError, StaleArtifact
from enginewright.feeds import Array
from enginewright.registry import RECIPES
from support.image_sets import SETS, output, settings

TOKENS = Ragged.of([np.arange(size, dtype=np.int64) for size in (3, 3, 5, 5, 5, 3)])
VARYING = ImageSet({"tokens": TOKENS, "mask": np.ones((6, 1), bool)}, None, (), tuple("abcdef"), [])


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        pytest.param(1, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)], id="one by one"),
        pytest.param(2, [(0, 2), (2, 4), (4, 5), (5, 6)], id="two at most"),
        pytest.param(9, [(0, 2), (2, 5), (5, 6)], id="as many as are alike"),
    ],
)
def test_a_piece_has_one_shape_and_all_pieces_are_all_samples(size: int, pieces: list[tuple[int, int]]) -> None:
    assert VARYING.varies
    assert [(piece.start, piece.stop) for piece in VARYING.pieces(size)] == pieces


def test_rows_of_several_shapes_are_refused() -> None:
    assert VARYING.rows(np.array([0, 5]))["tokens"].shape == (2, 3)
    with pytest.raises(DataError, match=r"the samples of a batch have one shape, and 'tokens' of those asked for has"):
        VARYING.rows(slice(1, 3))


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        pytest.param((3, 3, 5, 5, 5, 3, 5), [2, 3, 4, 6], id="most"),
        pytest.param((3, 5, 5, 3), [0, 3], id="as many: the first"),
        pytest.param((3, 3), [0, 1], id="all"),
    ],
)
def test_the_commonest_shape(sizes: Sequence[int], found: list[int]) -> None:
    ragged = Ragged.of([np.zeros(size) for size in sizes])
    assert ImageSet({"x": ragged}, None, (), tuple(map(str, sizes)), []).commonest().tolist() == found


def test_the_first_samples_alone() -> None:
    part = VARYING.first(3)
    assert (len(part), part.names) == (3, ("a", "b", "c"))
    assert [(piece.start, piece.stop) for piece in part.pieces(9)] == [(0, 2), (2, 3)]


class Pairs:
    """A recipe: a picture in its own size, and its lines as numbers."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        del preprocessing

    def store(self, sample: Sample) -> tuple[Stored, Geometry]:
        pixels = np.asarray(sample.load())
        lines = pixels.sum(axis=1).astype(np.int32)
        return {IMAGES: pixels[..., None], "targets": lines}, Geometry((pixels.shape[0], 9), (0.5, 2.0), (-1.5, 3.0))

    def target(self, sample: Sample) -> Array:
        assert sample.target is not None
        return np.asarray(sample.target(), np.float16)

    def feeds(self, stored: Stored, inputs: Sequence[str]) -> dict[str, Array]:
        return {name: stored[name] for name in inputs}


def pictures(passes: list[int], change: int = 99) -> Source:
    """Forty of 8 or 9 lines; from the pass `change` on others."""

    def load(index: int, number: int) -> Any:
        return np.random.default_rng(index + 1000 * (number >= change)).integers(0, 256, (8 + index % 2, 9), np.uint8)

    def samples() -> Iterator[Sample]:
        passes.append(1)
        for index in range(40):
            target = partial(np.full, (index % 3, 4), index)
            yield Sample(f"{index}.png", -1, partial(load, index, len(passes)), target=target)

    return Source((), samples, "the test")


def test_arrays_of_several_shapes_targets_and_geometry_find_back(here: Path) -> None:
    folders, data = {name: Path("out") / name for name in SETS}, settings(selection=Selection.coverage)
    data.preprocessing.recipe = "pairs"
    with RECIPES.using("pairs", Pairs):
        prepare(pictures([]), data, 0, folders, output)
    found = ImageSet.open(folders["validation"])
    assert list(found.arrays) == [IMAGES, "targets"] or list(found.arrays) == ["targets", IMAGES]
    assert [file.name for file in found.array_files] == [
        *("%74argets.npy", "%74argets.shapes.npy", "images.npy", "images.shapes.npy")
    ]
    assert found.varies
    assert found.sizes[IMAGES] == [[8, 9, 1], [9, 9, 1]]
    for row, name in enumerate(found.names):
        index = int(name.partition(".")[0])
        pixels = np.random.default_rng(index).integers(0, 256, (8 + index % 2, 9), np.uint8)
        np.testing.assert_array_equal(found.arrays[IMAGES][[row]][0][..., 0], pixels)
        np.testing.assert_array_equal(found.arrays["targets"][[row]][0], pixels.sum(axis=1))
        assert found.targets is not None
        np.testing.assert_array_equal(found.targets[[row]][0], np.full((index % 3, 4), index, np.float16))
        assert found.geometries(slice(row, row + 1)) == [Geometry((8 + index % 2, 9), (0.5, 2.0), (-1.5, 3.0))]
    for name in ("%74argets.npy", "%74argets.shapes.npy"):
        for path in (folders["validation"] / name, folders["validation"] / f"{name}.json"):
            path.unlink()
    with pytest.raises(StaleArtifact, match="does not hold the files that were written together: one is missing"):
        ImageSet.open(folders["validation"])


@pytest.mark.parametrize("change", [pytest.param(2, id="second pass"), pytest.param(3, id="third pass")])
def test_a_source_that_gives_other_samples_later_is_refused(here: Path, change: int) -> None:
    data = settings(selection=Selection.random)
    data.preprocessing.recipe = "pairs"
    sentence = r"the source gives another sample at place \d+ \(\d+\.png\) than it gave when it was read first"
    with RECIPES.using("pairs", Pairs), pytest.raises(DataError, match=sentence):
        prepare(pictures([], change), data, 0, {name: Path("out") / name for name in SETS}, output)
    assert not list(Path("out").rglob("validation/*")) or change == 3
