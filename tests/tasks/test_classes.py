"""Data whose classes cannot be the model's is refused before anything is calibrated."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest

from enginewright.data import ImageSet
from enginewright.data.classes import BY_FILE, BY_NAME, BY_NUMBER
from enginewright.errors import DataError
from enginewright.interface import Interface, TensorSpec
from enginewright.tasks import get_task
from enginewright.tasks.classes import require_classes

SHAPES = {"classification": ("batch", 3), "segmentation": ("batch", 3, 4, 4), "outputs": ("batch", 3)}


def answers(task: str) -> Interface:
    return Interface((), (TensorSpec("logits", np.dtype(np.float32), SHAPES[task]),))


def images(classes: int, labels: Optional[list[int]] = None, order: str = BY_NAME) -> ImageSet:
    known = None if labels is None else np.array(labels, np.int64)
    return ImageSet({}, known, tuple(f"c{index}" for index in range(classes)), ("a", "b"), [], class_order=order)


@pytest.mark.parametrize(("task", "count"), [("classification", 3), ("segmentation", 3), ("outputs", None)])
def test_how_many_classes_a_model_has(task: str, count: Optional[int]) -> None:
    assert get_task(task).class_count(answers(task)) == count
    require_classes(get_task(task), answers(task), images(3, [0, 2]))
    require_classes(get_task(task), answers(task), images(0))


def test_an_axis_without_a_size_says_nothing() -> None:
    answer = Interface((), (TensorSpec("logits", np.dtype(np.float32), ("batch", "classes")),))
    require_classes(get_task("classification"), answer, images(7, [0, 6]))


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        pytest.param(
            images(2, [0, 1]),
            r"the output 'logits' of the model has 3 classes, and the data has 2 \(c0, c1, ...\), so that labels would"
            r" not be the indices of its outputs; name all classes of the model in a file",
            id="folders",
        ),
        pytest.param(
            images(4, [0, 1], BY_FILE),
            r"has 3 classes, and the file data.classes names 4; name each class",
            id="a file",
        ),
        pytest.param(
            images(0, [0, 3], BY_NUMBER),
            r"has 3 classes, from 0 on, and b has the label 3; labels must be",
            id="numbers",
        ),
    ],
)
def test_other_classes_are_refused(task: str, found: ImageSet, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        require_classes(get_task(task), answers(task), found)
