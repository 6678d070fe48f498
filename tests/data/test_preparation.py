"""From a folder of real files to three sets: disjoint, stratified, the same twice, in flat memory; and what is
refused.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from enginewright import manifest
from enginewright.config import ChannelOrder, Data, Preprocessing, Selection
from enginewright.data import ImageSet
from enginewright.data.preparation import prepare
from enginewright.data.samples import UNLABELLED, Sample, Source
from enginewright.data.sources import open_source
from enginewright.errors import DataError, StaleArtifact
from support.image_sets import SETS, output, settings


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 7, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def images(here: Path) -> Path:
    """30 cats and 10 dogs."""
    for index in range(40):
        write(here / "images" / ("cat" if index < 30 else "dog") / f"{index:02d}.png", index)
    (here / "images/README.md").write_text("not an image")
    return here / "images"


def run(data: Data, out: str = "out", seed: int = 0) -> dict[str, Any]:
    return prepare(open_source(data), data, seed, {name: Path(out) / name for name in SETS}, output)


def digest(folder: Path) -> str:
    """Of all files in it, sidecars included, but for the place that these name."""
    return hashlib.sha256(
        b"".join(path.read_bytes().replace(str(folder).encode(), b"") for path in sorted(folder.iterdir()))
    ).hexdigest()


def test_sets_are_disjoint_stratified_and_what_the_files_hold(images: Path) -> None:
    metrics = run(settings())
    sets = {name: ImageSet.open(Path("out") / name) for name in SETS}
    assert {name: len(images) for name, images in sets.items()} == {
        "training": 20,
        "calibration": 6,
        "sensitivity": 2,
        "validation": 8,
    }
    names = [name for images in sets.values() for name in images.names]
    assert len(set(names)) == len(names)
    for found in sets.values():
        assert found.classes == ("cat", "dog")
        assert found.labels is not None
        for name, label, pixels in zip(found.names, found.labels, found.arrays["images"], strict=True):
            assert name.startswith(found.classes[label])
            with Image.open(images / name) as image:
                assert np.array_equal(np.asarray(image.convert("L").crop((0, 1, 6, 7))), pixels[..., 0])
    assert metrics["validation"] == {"images": 8, "classes": 2, "images_per_class_min": 2, "images_per_class_max": 6}
    assert metrics["training"]["images_per_class_min"] == 5
    assert metrics["duplicates_removed"] == 0


def test_the_same_bytes_twice_and_others_for_another_seed(images: Path) -> None:
    run(settings(), "first")
    run(settings(), "second")
    run(settings(), "third", seed=1)
    for name in SETS:
        assert digest(Path("first") / name) == digest(Path("second") / name)
        assert digest(Path("first") / name) != digest(Path("third") / name)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"calibration_images": 3}, id="fewer calibration images"),
        pytest.param({"selection": Selection.coverage}, id="another selection"),
        pytest.param({"calibration_pool": 8}, id="a smaller pool"),
        pytest.param({"selection_seed": 1}, id="another selection seed"),
    ],
)
def test_calibration_settings_leave_training_and_validation_alone(images: Path, changes: dict[str, Any]) -> None:
    run(settings(), "before")
    run(settings(**changes), "after")
    assert digest(Path("before/training")) == digest(Path("after/training"))
    assert digest(Path("before/validation")) == digest(Path("after/validation"))
    assert digest(Path("before/calibration")) != digest(Path("after/calibration"))


def test_the_selection_seed_is_the_seed_unless_it_is_given(images: Path) -> None:
    run(settings(), "null", seed=3)
    run(settings(selection_seed=3), "three", seed=3)
    assert digest(Path("null/calibration")) == digest(Path("three/calibration"))


def test_duplicates_are_found_by_pixels_and_removed(images: Path) -> None:
    Image.open(images / "cat/03.png").save(images / "cat/copy.bmp")  # other bytes, same pixels
    Image.open(images / "cat/04.png").save(images / "dog/relabelled.png")
    metrics = run(settings())
    assert metrics["source_images"] == 42
    assert metrics["duplicates_removed"] == 2
    assert metrics["duplicates_with_another_label"] == 1
    with pytest.raises(
        DataError,
        match=r"43 images are needed .* and there are 40 images in what images holds after 2 duplicates are left out",
    ):
        run(settings(train_images=23))


def test_unlabelled_images(here: Path) -> None:
    for index in range(40):
        write(here / f"images/{index}.jpg", index)
    metrics = run(settings(selection=Selection.coverage, train_images=0))
    validation = ImageSet.open(Path("out/validation"))
    assert validation.labels is None
    assert validation.classes == ()
    assert len(ImageSet.open(Path("out/training"))) == 0
    assert metrics["training"] == {"images": 0, "classes": 0}
    with pytest.raises(DataError, match="choose coverage or random"):
        run(settings())


@pytest.mark.parametrize(
    ("files", "text"),
    [
        pytest.param([], r"data\.root images is no folder", id="no folder"),
        pytest.param(
            ["README.md"], r"40 images are needed \(data\.train_images 20 \+ .*\) and there are 0 images", id="empty"
        ),
        pytest.param(["one.png"], "there is 1 image in what images holds", id="one image"),
        pytest.param(["one.png", "cat/two.png"], r"one\.png beside cat/", id="loose beside labelled"),
        pytest.param(
            ["cat/good.png", "cat/broken.png"],
            r"images/cat/broken\.png cannot be read .* replace the file or remove it",
            id="corrupt",
        ),
    ],
)
def test_what_is_refused(here: Path, files: list[str], text: str) -> None:
    for name in files:
        if name.endswith("png"):
            write(here / "images" / name, 0)
        else:
            Path("images").mkdir(exist_ok=True)
            (here / "images" / name).write_text("")
    if "broken" in text:
        path = here / "images/cat/broken.png"
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=text):
        run(settings())
    assert not Path("out").exists()


def test_a_set_with_a_changed_label_is_not_opened(images: Path) -> None:
    run(settings())
    labels = Path("out/training/labels.csv")
    labels.write_text(labels.read_text().replace(",1", ",0"))
    with pytest.raises(StaleArtifact, match=r"labels\.csv cannot be used"):
        ImageSet.open(Path("out/training"))


def peak_bytes(count: int, out: str) -> int:
    """Traced memory at its highest while `count` images of 64 x 64 RGB are prepared, half of them for training."""

    def load(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    source = Source(
        (), lambda: (Sample(str(index), UNLABELLED, partial(load, index)) for index in range(count)), "test"
    )
    data = settings(train_images=count // 2, selection=Selection.random)
    data.preprocessing = Preprocessing(size=[64, 64], channels=ChannelOrder.rgb, mean=[0.0] * 3, std=[1.0] * 3)
    tracemalloc.start()
    prepare(source, data, 0, {name: Path(out) / name for name in SETS}, output)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_images(here: Path) -> None:
    peak_bytes(100, "warm")  # imports and caches
    small, large = peak_bytes(200, "small"), peak_bytes(1000, "large")
    assert large - small < 800 * 400  # index, names and places: under 400 of the 12,288 bytes of an image


def strokes() -> Source:
    """Forty images that count their pixels, each with a target that tells every pixel of it apart."""

    def samples() -> Iterator[Sample]:
        for index in range(40):
            pixels = np.random.default_rng(index).integers(0, 256, (9, 8), dtype=np.uint8)
            yield Sample(
                f"{index}.png", index % 2, partial(np.asarray, pixels), target=partial(np.asarray, pixels // 2)
            )

    return Source(("dark", "light"), samples, "the test")


def test_targets_are_cut_as_their_images_are_and_sealed(here: Path) -> None:
    prepare(strokes(), settings(), 0, {name: Path("out") / name for name in SETS}, output)
    for name in SETS:
        found = ImageSet.open(Path("out") / name)
        assert found.targets is not None
        np.testing.assert_array_equal(np.asarray(found.targets), np.asarray(found.arrays["images"])[..., 0] // 2)
        assert Path("out") / name / "targets.npy" in found.files
    (Path("out") / "training/targets.npy").unlink()
    with pytest.raises(StaleArtifact, match=r"targets\.npy cannot be used: it does not exist"):
        ImageSet.open(Path("out") / "training")


@pytest.mark.parametrize("name", ["images.npy", "labels.csv", "classes.json"])
@pytest.mark.parametrize("other", ["another seed", "other images"])
def test_files_of_two_runs_are_no_set(images: Path, name: str, other: str) -> None:
    run(settings(), "first")
    whole = Path("first/validation")
    before = {path: path.read_bytes() for path in whole.iterdir()}
    if other == "other images":
        write(images / "cat/00.png", 1000)
        write(images / "bird/00.png", 1001)
    run(settings(), "first", seed=1 if other == "another seed" else 0)
    for path in (whole / name, manifest.sidecar(whole / name)):
        path.write_bytes(before[path])
    with pytest.raises(StaleArtifact, match=r"does not belong to .*; run `dvc repro -f prepare_data`") as fault:
        ImageSet.open(whole)
    assert "\n" not in str(fault.value)


def test_the_validation_set_is_not_taken_for_the_calibration_set(images: Path) -> None:
    run(settings())
    for path in Path("out/validation").iterdir():
        (Path("out/calibration") / path.name).write_bytes(path.read_bytes())
    with pytest.raises(
        StaleArtifact,
        match=r"out/calibration/images\.npy cannot be used: its sidecar is that of out/validation/images\.npy",
    ):
        ImageSet.open(Path("out/calibration"))
