"""Tables for many classes and for none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from enginewright.data import ImageSet
from enginewright.tasks.tables import (
    CONFUSION_CLASSES,
    OTHER,
    class_names,
    class_table,
    confusion_table,
    recall_series,
)


def image_set(labels: list[int], classes: int) -> ImageSet:
    pixels = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return ImageSet(
        {"images": pixels},
        np.array(labels),
        tuple(f"c{index}" for index in range(classes)),
        tuple(str(index) for index in range(len(labels))),
        [Path("x")],
    )


def test_confusion_of_many_classes_keeps_those_with_most_errors() -> None:
    labels = [index % 100 for index in range(1000)]
    predictions = [label if label >= 30 else label + 50 for label in labels]  # classes 0 to 29 are always wrong
    images = image_set(labels, 100)
    table = confusion_table(images, pd.DataFrame({"prediction": predictions}), class_names(images, 100))
    assert table["actual"].nunique() == CONFUSION_CLASSES
    assert set(table["predicted"]) == {OTHER}


def test_class_table_counts_only_classes_that_occur_and_the_delta() -> None:
    images = image_set([0, 0, 2, 2], 3)
    rows = {"fp32": pd.DataFrame({"prediction": [0, 0, 2, 1]}), "int8": pd.DataFrame({"prediction": [0, 1, 2, 2]})}
    table = class_table(images, rows, class_names(images, 3))
    assert table["class"].tolist() == ["c0", "c2"]
    assert table["images"].tolist() == [2, 2]
    assert table["recall_delta_int8"].tolist() == [-0.5, 0.5]
    assert recall_series(table)["share_right"].tolist() == [1.0, 0.5, 0.5, 1.0]


def test_without_labels_the_plotted_column_keeps_its_name() -> None:
    images = ImageSet({"images": np.zeros((4, 1, 1, 1), np.uint8)}, None, ("c0", "c1"), tuple("abcd"), [Path("x")])
    rows = {"fp32": pd.DataFrame({"prediction": [0, 0, 1, 1]}), "int8": pd.DataFrame({"prediction": [0, 1, 1, 1]})}
    series = recall_series(class_table(images, rows, class_names(images, 2)))
    assert series.to_dict("records") == [
        {"class": "c0", "precision": "int8", "share_right": 0.5},
        {"class": "c1", "precision": "int8", "share_right": 1.0},
    ]


def test_names_fall_back_to_indices() -> None:
    assert class_names(image_set([0], 1), 3) == ["c0", "1", "2"]
