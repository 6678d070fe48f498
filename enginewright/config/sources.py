"""What cannot work of `data.source` and what it needs."""

from __future__ import annotations

from collections.abc import Iterator

from enginewright.config.choices import Selection
from enginewright.config.data import Data
from enginewright.config.preprocessing import OF_IMAGES as RECIPES_OF_IMAGES

Fault = tuple[str, str]  # key, what is wrong and what to do

OF_ARRAYS = ("arrays", "loader")  # sources whose samples are arrays by the names of inputs
PACKAGED = ("digits", "digit_strokes", "digit_scenes", "fashion_mnist", "photographs")  # which bring their classes
OF_IMAGES = (*PACKAGED, "image_folder", "coco", "yolo_labels")
WITH_BOXES = ("digit_scenes", "coco", "yolo_labels")
LABELLED_BY_FILE = ("image_folder", "coco")  # which read data.labels
CROP = "crop"  # the recipe that cuts off what lies outside
AS_THEY_ARE = "none"  # the recipe that feeds arrays as they are


def faults(data: Data) -> Iterator[Fault]:
    """Yield what is wrong with where samples come from."""
    yield from _loader(data)
    recipe = data.preprocessing.recipe
    if data.source in OF_ARRAYS and recipe in RECIPES_OF_IMAGES:
        yield (
            "data.preprocessing.recipe",
            f"{recipe} is for images, and data.source {data.source} gives arrays; set it to {AS_THEY_ARE}, which feeds"
            " them as they are",
        )
    if data.source in OF_IMAGES and recipe == AS_THEY_ARE:
        yield (
            "data.preprocessing.recipe",
            f"{AS_THEY_ARE} feeds arrays as they are, and data.source {data.source} gives images; choose one of"
            f" {', '.join(RECIPES_OF_IMAGES)}",
        )
    if data.source in WITH_BOXES and recipe == CROP:
        yield (
            "data.preprocessing.recipe",
            f"{CROP} cuts off objects, whose boxes would count as missed; set it to letterbox or stretch, as the"
            " detector was trained",
        )
    if data.selection is Selection.coverage and recipe == AS_THEY_ARE:
        yield "data.selection", f"coverage compares images, and recipe {recipe} has none; choose stratified or random"
    if data.labels_file and data.source not in LABELLED_BY_FILE:
        sources = " and ".join(LABELLED_BY_FILE)
        yield "data.labels", f"{data.labels} is for data.source {sources}, and data.source is {data.source}"
    if data.source == "coco" and not data.labels_file:
        yield "data.labels", "is not set; data.source coco reads boxes from it: set it to COCO's JSON of instances"
    if data.classes_file and data.source in PACKAGED:
        yield (
            "data.classes",
            f"{data.classes} is for data of your own, and {data.source} brings its classes",
        )


def _loader(data: Data) -> Iterator[Fault]:
    if data.source != "loader":
        if data.loader is not None:
            yield "data.loader", f"{data.loader} is for data.source loader, and data.source is {data.source}"
        return
    if not data.loader or "." not in data.loader.strip("."):
        given = "is not given" if not data.loader else f"'{data.loader}' is not module.function"
        yield "data.loader", f"{given}; name a generator function, such as my_data.load"
    if not data.own_code:
        yield "data.code", "names no file of yours; name that of data.loader, such as my_data.py, so that DVC sees it"
