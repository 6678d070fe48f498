"""A folder of .npz files: nothing of it is unpickled, and all that cannot be used is told at once."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright.config import Data, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.data.indexing import index_source
from enginewright.data.preparation import prepare
from enginewright.data.recipes import recipe_of
from enginewright.data.samples import Source
from enginewright.data.sources import open_source
from enginewright.errors import DataError
from enginewright.interface import TensorSpec
from support.image_sets import SETS, output, settings

ROOT = Path("arrays")
NONE = Preprocessing(recipe="none")
TOKENS = TensorSpec("tokens", np.dtype(np.int64), ("batch", "length"))
MASK = TensorSpec("mask", np.dtype(bool), ("batch", "length"))


class Runs:
    """A pickle that leaves a file behind when it is read."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("it-ran"),)


def write(name: str, length: int = 4, seed: int = 0, **others: Any) -> None:
    path = ROOT / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = np.random.default_rng(seed).integers(0, 1000, length)
    np.savez(path, tokens=tokens, mask=tokens > 500, **others)


def opened(**changes: Any) -> Source:
    return open_source(Data(source="arrays", root=str(ROOT), preprocessing=NONE, **changes))


def test_arrays_of_several_lengths_reach_the_inputs_as_they_are(here: Path) -> None:
    for index in range(40):
        write(f"{index % 3}/{index:02}", 4 + index % 2, index, target=index % 3)
    (ROOT / "README.md").write_text("ours")
    data = settings(source="arrays", root=str(ROOT), preprocessing=NONE)
    metrics = prepare(
        open_source(data), data, 0, {name: Path("out") / name for name in SETS}, output, inputs=[TOKENS, MASK]
    )
    assert "coverage_radius_gray_levels" not in metrics
    assert (metrics["ignored_files"], metrics["class_order"]) == (1, "numbers of the targets")
    found = ImageSet.open(Path("out/validation"))
    assert (found.varies, found.classes, found.targets, found.geometry) == (True, (), None, None)
    assert found.labels is not None
    feeding = Feeding(found, NONE)
    fed = [(piece, feeding.rows(piece, [MASK, TOKENS])) for piece in feeding.pieces(3)]
    assert sum(piece.stop - piece.start for piece, _ in fed) == 8
    for piece, feeds in fed:
        for row, name in enumerate(found.names[piece]):
            index = int(Path(name).stem)
            wanted = np.random.default_rng(index).integers(0, 1000, 4 + index % 2)
            np.testing.assert_array_equal(feeds["tokens"][row], wanted)
            np.testing.assert_array_equal(feeds["mask"][row], wanted > 500)
            assert found.labels[piece][row] == index % 3


def test_all_that_cannot_be_used_is_told_at_once_and_no_pickle_runs(here: Path) -> None:
    write("good")
    np.savez(ROOT / "objects.npz", tokens=np.array([Runs()], object), mask=np.zeros(1, bool))
    (ROOT / "pickle.npz").write_bytes(pickle.dumps(Runs()))
    (ROOT / "cut.npz").write_bytes((ROOT / "good.npz").read_bytes()[:100])
    (ROOT / "other.npy").write_bytes(b"")
    with (ROOT / "one.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError) as told:
        index_source(opened(), recipe_of(NONE), [TOKENS, MASK])
    assert not Path("it-ran").exists()
    text = str(told.value)
    assert text.startswith(
        "5 files or samples cannot be used; 4 of 5 samples: arrays/cut.npz cannot be read as an .npz"
    )
    assert "arrays/objects.npz holds Python objects, which are pickled and could run code" in text
    assert "arrays/one.npz cannot be read as an .npz file (it is one array, as np.save writes it)" in text
    assert "and 1 more" in text
    assert "in formats that are not read: 1 .npy (arrays/other.npy)" in text


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        pytest.param({"extra": np.zeros(2)}, r"arrays/b.npz has the key 'extra', which is no input", id="another key"),
        pytest.param({"target": 1}, r"arrays/a.npz has no label, and arrays/b.npz has one; give all", id="one label"),
        pytest.param(
            {"target": np.zeros(2)}, "arrays/b.npz has 'targets', which the samples before it do not", id="one target"
        ),
        pytest.param({"target": np.array(-2)}, "arrays/b.npz has the target -2, which is no class", id="no class"),
    ],
)
def test_samples_that_differ(here: Path, others: dict[str, Any], sentence: str) -> None:
    write("a")
    write("b", seed=1, **others)
    with pytest.raises(DataError, match=sentence):
        index_source(opened(), recipe_of(NONE), [TOKENS, MASK])


def test_names_of_classes(here: Path) -> None:
    write("a", target=2)
    Path("classes.txt").write_text("x\ny\n")
    found = opened(classes="classes.txt")
    assert found.classes == ("x", "y")
    with pytest.raises(DataError, match=r"arrays/a.npz has the target 2, which is no class: data.classes names 2"):
        index_source(found, recipe_of(NONE))


def test_no_folder(here: Path) -> None:
    with pytest.raises(DataError, match=r"data.root arrays is no folder; give one that holds an .npz file for each"):
        opened()
