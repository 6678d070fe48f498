"""Every task that the configuration can name is a module, and keeps the contract on arrays of its own shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enginewright.accuracy import tasks
from enginewright.accuracy.gate import judge
from enginewright.accuracy.tasks import get_task
from enginewright.accuracy.tasks.base import AGREEMENT, Outputs
from enginewright.config import Accuracy, TaskName
from enginewright.data import ImageSet
from enginewright.models.objectives import objective_of

RANDOM = np.random.default_rng(0)
CLASSES, IMAGES = 4, 30
SHAPES: dict[TaskName, tuple[int, ...]] = {TaskName.classification: (), TaskName.segmentation: (6, 5)}  # of an image's targets


def image_set(name: TaskName, known: bool) -> ImageSet:
    pixels, names = np.zeros((IMAGES, 6, 5, 1), np.uint8), tuple(f"{index}.png" for index in range(IMAGES))
    targets = RANDOM.integers(0, CLASSES, (IMAGES, *SHAPES[name]))
    labels = targets if known and not SHAPES[name] else None
    return ImageSet(pixels, labels, tuple("abcd"), names, [Path("x")], targets.astype(np.uint8) if known and SHAPES[name] else None)


def answers(name: TaskName) -> tuple[Outputs, Outputs]:
    """FP32's and another engine's."""
    fp32 = RANDOM.normal(size=(IMAGES, CLASSES, *SHAPES[name])).astype(np.float32)
    return fp32, (fp32 + 0.3 * RANDOM.normal(size=fp32.shape)).astype(np.float32)


def test_every_task_is_a_module_and_reverse() -> None:
    folder = Path(str(tasks.__file__)).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "base"} == {name.value for name in TaskName} == {name.value for name in SHAPES}


@pytest.mark.parametrize("name", TaskName, ids=lambda name: name.value)
def test_training_and_validation_speak_of_the_same_figure(name: TaskName) -> None:
    objective, task = objective_of(name), get_task(name)
    assert (objective.figure, objective.title) == (task.figure, task.title)


@pytest.mark.parametrize("known", [True, False], ids=["targets", "no targets"])
@pytest.mark.parametrize("name", TaskName, ids=lambda name: name.value)
def test_contract(name: TaskName, known: bool) -> None:
    task, images = get_task(name), image_set(name, known)
    fp32, other = answers(name)
    targets = task.targets(images)
    assert (targets is not None) is known
    assert task.accepts(fp32.shape)
    assert not task.accepts(fp32.shape[:-1])
    rows = {"fp32": task.per_image(fp32, targets, None), "int8": task.per_image(other, targets, fp32)}
    assert [len(frame) for frame in rows.values()] == [IMAGES, IMAGES]
    figures = {precision: task.summary(frame, CLASSES) for precision, frame in rows.items()}
    compared = task.compare(rows["int8"], rows["fp32"], 0.95)
    assert 0 < figures["int8"][AGREEMENT] < 1
    assert AGREEMENT not in figures["fp32"]
    assert (task.figure in figures["fp32"]) is known
    if known:
        difference = compared[f"{task.figure}_difference"]
        assert difference == pytest.approx(figures["int8"][task.figure] - figures["fp32"][task.figure])
        assert compared[f"{task.figure}_difference_low"] <= difference <= compared[f"{task.figure}_difference_high"]
    else:
        assert set(compared) == {f"{AGREEMENT}_low", f"{AGREEMENT}_high"}
    assert compared[f"{AGREEMENT}_low"] < figures["int8"][AGREEMENT] < compared[f"{AGREEMENT}_high"]
    tables = task.tables(images, rows, CLASSES)
    assert list(tables) == ["classes.csv", "recall.csv", "changed.csv", "confusion_fp32.csv", "confusion_int8.csv", "predictions.csv"]
    assert (f"{task.class_figure}_delta_int8" if known else "agreement_int8") in tables["classes.csv"]
    assert list(tables["recall.csv"]) == ["class", "precision", "share_right"]
    assert list(tables["confusion_int8.csv"]) == ["actual", "predicted"]
    assert {"precision", "name", "fp32", "predicted"} <= set(tables["changed.csv"])
    assert judge(task, figures["int8"], figures["fp32"], Accuracy(minimum_ratio=0.1)).figure == (task.figure if known else AGREEMENT)


@pytest.mark.parametrize("name", TaskName, ids=lambda name: name.value)
def test_a_slice_of_the_images_is_judged_as_if_it_were_all(name: TaskName) -> None:
    task, (fp32, other) = get_task(name), answers(name)
    targets = task.targets(image_set(name, known=True))
    assert targets is not None
    whole = task.per_image(other, targets, fp32)[10:20]
    assert task.summary(whole, CLASSES) == pytest.approx(task.summary(task.per_image(other[10:20], targets[10:20], fp32[10:20]), CLASSES))
