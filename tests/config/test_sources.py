"""Sources and recipes that do not go together are refused by `configure`."""

from __future__ import annotations

from typing import Any

import pytest

from enginewright.config import Data, Preprocessing, Selection
from enginewright.config.sources import faults

NONE = Preprocessing(recipe="none")


@pytest.mark.parametrize(
    ("settings", "key", "sentence"),
    [
        pytest.param(
            {"source": "arrays"}, "data.preprocessing.recipe", "crop is for images, and data.source arrays", id="crop"
        ),
        pytest.param(
            {"source": "image_folder", "preprocessing": NONE},
            "data.preprocessing.recipe",
            "none feeds arrays as they are, and data.source image_folder gives images; choose one of crop, letterbox",
            id="none",
        ),
        pytest.param(
            {"source": "arrays", "preprocessing": NONE, "selection": Selection.coverage},
            "data.selection",
            "coverage compares images, and recipe none has none; choose stratified or random",
            id="coverage",
        ),
        pytest.param({"labels": "l.csv"}, "data.labels", "l.csv is for data.source image_folder and coco,", id="csv"),
        pytest.param(
            {"source": "loader", "preprocessing": NONE, "code": "a.py"},
            "data.loader",
            "is not given; name a generator function, such as my_data.load",
            id="no loader",
        ),
        pytest.param(
            {"source": "loader", "preprocessing": NONE, "code": "a.py", "loader": "load"},
            "data.loader",
            "'load' is not module.function; name",
            id="no module",
        ),
        pytest.param(
            {"source": "loader", "preprocessing": NONE, "loader": "my_data.load"},
            "data.code",
            "names no file of yours; name that of data.loader",
            id="no code",
        ),
        pytest.param({"loader": "my_data.load"}, "data.loader", "my_data.load is for data.source loader", id="source"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], key: str, sentence: str) -> None:
    ((found, said),) = faults(Data(**settings))
    assert found == key
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="digits"),
        pytest.param({"source": "arrays", "preprocessing": NONE}, id="arrays"),
        pytest.param(
            {"source": "loader", "preprocessing": NONE, "loader": "my_data.load", "code": ["a.py"]}, id="loader"
        ),
        pytest.param({"source": "image_folder", "labels": "l.csv", "classes": "c.txt"}, id="files beside"),
    ],
)
def test_what_goes_together(settings: dict[str, Any]) -> None:
    assert not list(faults(Data(**settings)))


LETTERBOX = Preprocessing(recipe="letterbox")


@pytest.mark.parametrize(
    ("settings", "key", "sentence"),
    [
        pytest.param(
            {"source": "coco", "labels": "instances.json"},
            "data.preprocessing.recipe",
            "crop cuts off objects, whose boxes would count as missed; set it to letterbox or stretch, as the detector",
            id="crop",
        ),
        pytest.param(
            {"source": "digit_scenes"}, "data.preprocessing.recipe", "crop cuts off objects", id="crop of scenes"
        ),
        pytest.param(
            {"source": "coco", "preprocessing": LETTERBOX},
            "data.labels",
            "is not set; data.source coco reads boxes from it: set it to COCO's JSON of instances",
            id="no JSON",
        ),
        pytest.param(
            {"source": "yolo_labels", "preprocessing": LETTERBOX, "labels": "a.json"},
            "data.labels",
            "a.json is for data.source image_folder and coco, and data.source is yolo_labels",
            id="a JSON of no use",
        ),
        pytest.param(
            {"source": "digits", "classes": "classes.txt"},
            "data.classes",
            "classes.txt is for data of your own, and digits brings its classes",
            id="classes of a packaged source",
        ),
    ],
)
def test_what_does_not_go_with_boxes(settings: dict[str, Any], key: str, sentence: str) -> None:
    ((found, said),) = faults(Data(**settings))
    assert found == key
    assert said.startswith(sentence)
