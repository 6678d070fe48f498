"""Text files of boxes beside images: what they say in pixels, and file and line of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from PIL import Image

from enginewright.config import Data
from enginewright.data.samples import UNLABELLED, Source
from enginewright.data.sources import open_source
from enginewright.errors import DataError

ROOT = Path("set")


def image(name: str, orientation: Optional[int] = None, seed: int = 0) -> None:
    """20 wide and 10 high, as it is stored."""
    path = ROOT / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def text(name: str, lines: str) -> None:
    path = ROOT / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines)


@pytest.fixture
def folder(here: Path) -> Path:
    (here / ".dvc").mkdir()
    for seed, name in enumerate(("train/a.png", "train/b.jpg", "val/c.png")):
        image(name, seed=seed)
    text("train/a.txt", "1 0.5 0.5 0.2 0.4\n0 0 0 0.5 0 0.5 0.5\n1 0.5 0.5 0.2 0.4\n\n")
    text("val/c.txt", "0 0.25 0.25 0.5 0.5\n0 0.5 0.5 0 0.5\n")
    (ROOT / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    return here


def opened(**settings: str) -> Source:
    return open_source(Data(source="yolo_labels", root=str(ROOT), **settings))  # type: ignore[arg-type]


def boxes(source: Source) -> dict[str, list[list[float]]]:
    return {sample.name: sample.boxes().tolist() for sample in source.samples() if sample.boxes is not None}


def test_shares_become_pixels_an_outline_its_box_and_a_line_that_stands_twice_one(folder: Path) -> None:
    del folder
    source = opened()
    assert source.classes == ("cat", "dog")
    assert boxes(source) == {
        "train/a.png": [pytest.approx([8, 3, 12, 7, 1, 16, 0]), [0, 0, 10, 5, 0, 50, 0]],
        "train/b.jpg": [],
        "val/c.png": [[0, 0, 10, 5, 0, 50, 0]],
    }
    labels = {sample.name: (sample.label, sample.held_out) for sample in source.samples()}
    assert labels == {"train/a.png": (1, False), "train/b.jpg": (UNLABELLED, False), "val/c.png": (0, True)}
    assert "1 box has no area and is left out" in source.notes
    assert "1 image has no box: whatever is found there is wrong" in source.notes


def test_shares_are_of_the_image_as_it_is_shown(folder: Path) -> None:
    """Orientation 6 turns it: 10 wide and 20 high."""
    del folder
    image("val/c.png", orientation=6)
    assert boxes(opened())["val/c.png"] == [[0, 0, 5, 10, 0, 50, 0]]


def test_classes_may_be_named_by_a_file(folder: Path) -> None:
    (ROOT / "data.yaml").unlink()
    (folder / "classes.txt").write_text("bird\ncat\ndog\n")
    assert opened(classes="classes.txt").classes == ("bird", "cat", "dog")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        pytest.param("0 0.5 0.5 0.2", "line 1 of set/labels/train/a.txt holds 4 numbers; write class x y", id="four"),
        pytest.param("0 0.5 0.5 0.2 0.2\n0 .1 .1 .2 .2 .3 .3 .4", "line 2 of set/labels/train/a.txt holds 8", id="odd"),
        pytest.param("cat 0.5 0.5 0.2 0.2", "holds 'cat 0.5 0.5 0.2 0.2', not numbers; write class", id="a name"),
        pytest.param("2 0.5 0.5 0.2 0.2", "line 1 of set/labels/train/a.txt has the class 2, and there are 2", id="2"),
        pytest.param("-1 0.5 0.5 0.2 0.2", "has the class -1, and there are 2, from 0 on", id="negative class"),
        pytest.param("nan 0.5 0.5 0.2 0.2", "has the class nan, and there are 2", id="class nan"),
        pytest.param("inf 0.5 0.5 0.2 0.2", "has the class inf, and there are 2", id="class inf"),
        pytest.param("0.5 0.5 0.5 0.2 0.2", "has the class 0.5, and there are 2", id="half a class"),
        pytest.param("0 12 8 4 4", "has 12, and shares of an image lie between 0 and 1; write", id="pixels"),
        pytest.param("0 0.5 0.5 -0.2 0.2", "has -0.2, and shares of an image lie between 0 and 1", id="negative"),
        pytest.param("0 nan 0.5 0.2 0.2", "has nan, and shares of an image lie between 0 and 1", id="not a number"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, lines: str, sentence: str) -> None:
    del folder
    text("train/a.txt", lines)
    with pytest.raises(DataError) as refused:
        opened()
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, "nothing names the classes of set; write them into a file", id="no file"),
        pytest.param("nc: 2\n", "set/data.yaml has no `names` with a name of its own for each class", id="no names"),
        pytest.param("names: {1: cat, 2: dog}\n", "has no `names` with a name of its own for each", id="from 1 on"),
        pytest.param("names: [cat, cat]\n", "has no `names` with a name of its own for each class", id="twice"),
        pytest.param("names: [", "set/data.yaml is not valid YAML", id="not YAML"),
    ],
)
def test_classes_without_names_are_refused(folder: Path, content: Optional[str], sentence: str) -> None:
    del folder
    (ROOT / "data.yaml").unlink()
    if content is not None:
        (ROOT / "data.yaml").write_text(content)
    with pytest.raises(DataError) as refused:
        opened()
    assert sentence in str(refused.value)


def test_another_layout_is_refused(folder: Path) -> None:
    del folder
    (ROOT / "labels").rename("elsewhere")
    with pytest.raises(DataError, match=r"has no folder labels; put a .txt for each there, as ultralytics lays"):
        opened()


def test_a_label_file_without_an_image_is_said(folder: Path) -> None:
    del folder
    text("train/z.txt", "0 0.5 0.5 0.2 0.2")
    assert "1 label file has no image (train/z.txt)" in opened().notes
