"""COCO's JSON of boxes: what it says is what images are judged by, and what is wrong in it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from PIL import Image

from enginewright.config import ChannelOrder, Data, Preprocessing, Selection
from enginewright.data import ImageSet
from enginewright.data.columns import Ragged
from enginewright.data.indexing import index_source, stored_of
from enginewright.data.preparation import prepare
from enginewright.data.recipes import recipe_of
from enginewright.data.samples import UNLABELLED, Source
from enginewright.data.sources import open_source
from enginewright.errors import DataError
from support.image_sets import SETS, output

ROOT, JSON = Path("images"), Path("instances.json")
CROWD = {"iscrowd": 1, "area": 50.5, "segmentation": {"counts": [1, 2], "size": [10, 20]}}
Content = dict[str, Any]


def image(name: str, size: tuple[int, int] = (20, 10), orientation: Optional[int] = None, seed: int = 0) -> None:
    """Of this width and height."""
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def content() -> Content:
    """Two images with boxes of two categories, whose ids are 7 and 3, and one without."""
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 2, "file_name": "more/b.png", "width": 20, "height": 10},
            {"id": 9, "file_name": "c.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 7, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [-0.5, 0, 20.75, 10], **CROWD},
            {"id": 3, "image_id": 2, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"id": 4, "image_id": 2, "category_id": 3, "bbox": [4, 4, 0, 5]},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


@pytest.fixture
def project(here: Path) -> Path:
    (here / ".dvc").mkdir()
    for seed, name in enumerate(("a.png", "more/b.png", "c.png", "beside.png")):
        image(name, seed=seed)
    JSON.write_text(json.dumps(content()))
    return here


def opened(**settings: str) -> Source:
    return open_source(Data(source="coco", root=str(ROOT), labels=str(JSON), **settings))  # type: ignore[arg-type]


def boxes(source: Source) -> dict[str, list[list[float]]]:
    return {sample.name: sample.boxes().tolist() for sample in source.samples() if sample.boxes is not None}


def test_boxes_are_corners_with_class_area_and_crowd(project: Path) -> None:
    del project
    source = opened()
    assert source.classes == ("cat", "dog")  # by their ids
    assert source.class_order == "ids of the categories"
    assert boxes(source) == {
        "a.png": [[1, 2, 4, 6, 1, 12, 0], [-0.5, 0, 20.25, 10, 0, 50.5, 1]],
        "more/b.png": [[0, 0, 5, 5, 0, 25, 0]],
        "c.png": [],
    }
    assert source.notes[:3] == (
        "1 image is not in data.labels and left out (beside.png)",
        "1 box has no area and is left out",
        "1 image has no box: whatever is found there is wrong",
    )


def test_the_classes_of_the_model_may_have_another_order(project: Path) -> None:
    (project / "classes.txt").write_text("bird\ndog\ncat\n")
    source = opened(classes="classes.txt")
    assert source.classes == ("bird", "dog", "cat")
    assert [row[4] for row in boxes(source)["a.png"]] == [1, 2]


def test_the_label_is_the_most_frequent_class_and_the_rarest_of_equal_ones(project: Path) -> None:
    del project
    labels = {sample.name: sample.label for sample in opened().samples()}
    assert labels == {"a.png": 1, "more/b.png": 0, "c.png": UNLABELLED}  # one dog in all, and two cats


def test_an_image_set_keeps_boxes_of_any_number_and_where_the_image_lies(project: Path) -> None:
    del project
    preprocessing = Preprocessing(recipe="letterbox", size=[16, 16], resize=None)
    recipe = recipe_of(preprocessing)
    stored = {sample.name: stored_of(sample, recipe) for sample in opened().samples()}
    assert stored["a.png"]["targets"].shape == (2, 7)
    assert stored["c.png"]["targets"].shape == (0, 7)
    assert stored["a.png"]["geometry"].tolist() == [10, 20, 0.8, 0.8, 4, 0]
    assert len(index_source(opened(), recipe).labels) == 3  # one of them without a label


Edit = Callable[[Content], object]


def annotation(**changes: Any) -> Edit:
    return lambda content: content["annotations"][0].update(changes)


def entry(key: str, place: int = 0, **changes: Any) -> Edit:
    return lambda content: content[key][place].update(changes)


def without(key: str, place: int, field: str) -> Edit:
    return lambda content: content[key][place].pop(field)


FAULTS = [
    pytest.param(lambda content: content.pop("images"), "images is not a list of objects; give COCO's ins", id="none"),
    pytest.param(
        lambda content: content.update(categories=[]), "categories is empty; give COCO's instances", id="empty"
    ),
    pytest.param(annotation(image_id=77), "annotation 1 is of image 77, which is not in its images", id="image"),
    pytest.param(
        annotation(category_id=8), "annotation 1 is of category 8, which is not in its categories", id="class"
    ),
    pytest.param(annotation(image_id="5"), "annotation 1 has the image_id '5'; give it a whole number", id="text"),
    pytest.param(
        without("annotations", 0, "bbox"), "annotation 1, of a.png, has the bbox None; give x, y", id="no box"
    ),
    pytest.param(annotation(bbox=[1, 2, 3]), "has the bbox [1, 2, 3]; give x, y, width and height", id="three"),
    pytest.param(annotation(bbox=[1, 2, float("nan"), 3]), "has the bbox [1, 2, nan, 3]; give x", id="not a number"),
    pytest.param(annotation(bbox=[5, 5, -3, 2]), "[5, 5, -3, 2], whose width or height is negative", id="negative"),
    pytest.param(annotation(area=-5), "has the area -5; give square pixels, or leave it out", id="negative area"),
    pytest.param(annotation(area="12"), "has the area '12'; give square pixels", id="area as text"),
    pytest.param(annotation(iscrowd="false"), "has the iscrowd 'false'; give 0 or 1", id="crowd as text"),
    pytest.param(entry("images", 1, id=5), "two images have the id 5; give each its own", id="image twice"),
    pytest.param(entry("images", 1, file_name="a.png"), "two images have the file_name a.png; give", id="file twice"),
    pytest.param(without("images", 0, "file_name"), "image 5 has no file_name; give it one, relative to", id="no file"),
    pytest.param(entry("categories", 1, name="dog"), "category 3 ('dog') is there twice; tell them", id="class twice"),
    pytest.param(without("categories", 0, "name"), "category 7 has no name; give it one", id="no name"),
    pytest.param(
        entry("images", file_name="images/a.png"), "lists 1 file that is no image in images, s", id="not there"
    ),
]


@pytest.mark.parametrize(("edit", "sentence"), FAULTS)
def test_what_is_wrong_is_named(project: Path, edit: Edit, sentence: str) -> None:
    del project
    changed = content()
    edit(changed)
    JSON.write_text(json.dumps(changed))
    with pytest.raises(DataError) as refused:
        opened()
    assert f"data.labels {JSON}" in str(refused.value)
    assert sentence in str(refused.value)


def test_what_is_not_json_is_refused(project: Path) -> None:
    del project
    for text, sentence in (("{", "is not JSON (Expecting"), ("[]", "holds no object; give COCO's instances")):
        JSON.write_text(text)
        with pytest.raises(DataError, match=f"data.labels {JSON} ") as refused:
            opened()
        assert sentence in str(refused.value)
    JSON.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        opened()


def test_boxes_of_an_image_that_is_shown_turned_are_refused(project: Path) -> None:
    """The JSON says how it is stored: 20 wide."""
    del project
    image("a.png", orientation=6)
    with pytest.raises(DataError) as refused:
        boxes(opened())
    assert (
        "a.png is 20 x 10 pixels (height x width, as its EXIF orientation shows it), and data.labels says 10 x 20"
        in (str(refused.value))
    )


def test_sets_with_boxes_are_selected_by_class_and_come_back(project: Path) -> None:
    """Of 40 images with a cat each and one in four with a dog too, every set has its share of dogs."""
    images: list[Content] = []
    annotations: list[Content] = []
    for number in range(40):
        image(f"many/{number:02d}.png", seed=100 + number)
        images.append({"id": number, "file_name": f"many/{number:02d}.png"})
        kinds = [3, 7, 7] if number % 4 == 0 else [3] * (number % 3)
        annotations += [
            {"id": len(annotations) + place, "image_id": number, "category_id": kind, "bbox": [place, 1, 4, 5]}
            for place, kind in enumerate(kinds)
        ]
    whole = {"images": images, "annotations": annotations, "categories": content()["categories"]}
    JSON.write_text(json.dumps(whole))
    sizes = {"train_images": 0, "calibration_pool": 16, "calibration_images": 8, "sensitivity_images": 8}
    preprocessing = Preprocessing(
        recipe="letterbox", size=[16, 16], channels=ChannelOrder.rgb, mean=[0.0] * 3, std=[1.0] * 3
    )
    data = Data(
        source="coco",
        root=str(ROOT),
        labels=str(JSON),
        validation_images=16,
        selection=Selection.stratified,
        preprocessing=preprocessing,
        **sizes,  # type: ignore[arg-type]
    )
    folders = {name: project / "out" / name for name in SETS}
    prepare(open_source(data), data, 0, folders, output)
    for name, dogs in (("validation", 4), ("calibration", 2), ("sensitivity", 2)):
        found = ImageSet.open(folders[name])
        assert isinstance(found.targets, Ragged)
        assert sum(bool((rows[:, 4] == 1).any()) for rows in found.targets) == dogs
        assert found.geometry is not None
        for index, its in enumerate(found.geometries(slice(None))):
            back = its.boxes_to_image(its.boxes_to_input(found.targets[index : index + 1][0][:, :4]))
            assert np.allclose(back, found.targets[index : index + 1][0][:, :4], atol=1e-9)
