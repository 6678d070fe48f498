"""Every task that the configuration can name is a module, and keeps the contract on arrays of its own shape."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from enginewright import tasks
from enginewright.accuracy.evaluate import mean_of, together
from enginewright.accuracy.gate import judge
from enginewright.config import Accuracy, TaskName
from enginewright.data import ImageSet
from enginewright.models.objectives import OBJECTIVES, objective_of
from enginewright.tasks import get_task
from enginewright.tasks.base import Evaluation, Outputs

RANDOM = np.random.default_rng(0)
CLASSES, IMAGES = 4, 30
SHAPES: dict[TaskName, Optional[tuple[int, ...]]] = {  # of an image's targets, None where there are none
    TaskName.classification: (),
    TaskName.segmentation: (6, 5),
    TaskName.outputs: None,
}
TARGETED = [name for name, shape in SHAPES.items() if shape is not None]
KNOWN = [pytest.param(name, True, id=f"{name.value}-targets") for name in TARGETED] + [
    pytest.param(name, False, id=f"{name.value}-no targets") for name in SHAPES
]


def image_set(name: TaskName, known: bool) -> ImageSet:
    pixels, names = np.zeros((IMAGES, 6, 5, 1), np.uint8), tuple(f"{index}.png" for index in range(IMAGES))
    shape = SHAPES[name] or ()
    targets = RANDOM.integers(0, CLASSES, (IMAGES, *shape))
    labels = targets if known and not shape else None
    return ImageSet(
        pixels, labels, tuple("abcd"), names, [Path("x")], targets.astype(np.uint8) if known and shape else None
    )


def answers(name: TaskName) -> tuple[Outputs, Outputs]:
    """FP32's and another engine's."""
    fp32 = RANDOM.normal(size=(IMAGES, CLASSES, *(SHAPES[name] or ()))).astype(np.float32)
    other = (fp32 + 0.3 * RANDOM.normal(size=fp32.shape)).astype(np.float32)
    if get_task(name).every_output:
        return together({"scores": fp32, "one": fp32[:, :1]}), together({"scores": other, "one": other[:, :1]})
    return fp32, other


def mean(name: TaskName, fp32: Outputs) -> Optional[Outputs]:
    return mean_of(fp32) if get_task(name).every_output else None


def test_every_task_is_a_module_and_reverse() -> None:
    folder = Path(str(tasks.__file__)).parent
    assert (
        {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "metrics", "tables"}
        == {name.value for name in TaskName}
        == {name.value for name in SHAPES}
    )


def test_what_has_targets_can_be_trained_for() -> None:
    assert set(OBJECTIVES) == set(TARGETED)


@pytest.mark.parametrize("name", TARGETED, ids=lambda name: name.value)
def test_training_and_validation_speak_of_the_same_figure(name: TaskName) -> None:
    objective, task = objective_of(name), get_task(name)
    assert (objective.figure, objective.title) == (task.figure, task.title)


@pytest.mark.parametrize(("name", "known"), KNOWN)
def test_contract(name: TaskName, known: bool) -> None:
    task, images = get_task(name), image_set(name, known)
    fp32, other = answers(name)
    targets = task.targets(images)
    assert (targets is not None) is known
    shape = fp32.shape if not task.every_output else (IMAGES, 1)
    assert task.accepts(shape)
    assert task.accepts(shape[:-1]) is task.every_output
    rows = {"fp32": task.per_image(fp32, targets, None), "int8": task.per_image(other, targets, fp32, mean(name, fp32))}
    assert [len(frame) for frame in rows.values()] == [IMAGES, IMAGES]
    figures = {precision: task.summary(frame, CLASSES) for precision, frame in rows.items()}
    compared = task.compare(rows["int8"], rows["fp32"], 0.95)
    stand_in = task.without_targets
    assert 0 < figures["int8"][stand_in] < 1
    assert stand_in not in figures["fp32"]
    assert (task.figure in figures["fp32"]) is known
    if known:
        difference = compared[f"{task.figure}_difference"]
        assert difference == pytest.approx(figures["int8"][task.figure] - figures["fp32"][task.figure])
        assert compared[f"{task.figure}_difference_low"] <= difference <= compared[f"{task.figure}_difference_high"]
    else:
        assert set(compared) == {f"{stand_in}_low", f"{stand_in}_high"}
    assert compared[f"{stand_in}_low"] < figures["int8"][stand_in] < compared[f"{stand_in}_high"]
    tables = task.tables(images, rows, CLASSES)
    assert list(tables) == [
        "classes.csv",
        "recall.csv",
        "changed.csv",
        "confusion_fp32.csv",
        "confusion_int8.csv",
        "predictions.csv",
    ]
    assert (
        f"{task.class_figure}_delta_int8" if known else f"{task.class_figure if task.every_output else stand_in}_int8"
    ) in tables["classes.csv"]
    assert list(tables["recall.csv"]) == ["class", "precision", "share_right"]
    assert list(tables["confusion_int8.csv"]) == ["actual", "predicted"]
    assert {"precision", "name", "fp32", "predicted"} <= set(tables["changed.csv"])


@pytest.mark.parametrize(("name", "known"), KNOWN)
def test_the_gate_judges_the_metric_with_its_interval_and_the_noise(name: TaskName, known: bool) -> None:
    task, (fp32, other) = get_task(name), answers(name)
    targets = task.targets(image_set(name, known))
    engines = {
        "fp32": Evaluation(task.per_image(fp32, targets, None), CLASSES),
        "int8": Evaluation(task.per_image(other, targets, fp32, mean(name, fp32)), CLASSES),
        "equal": Evaluation(task.per_image(fp32, targets, fp32, mean(name, fp32)), CLASSES),
    }
    figure = task.figure if known else task.without_targets
    verdict = judge(task, engines["int8"], engines["fp32"], Accuracy(minimum_ratio=0.9))
    assert verdict.metric.figure == figure
    assert verdict.metric.value == pytest.approx(task.summary(engines["int8"].rows, CLASSES)[figure])
    assert verdict.metric.low < verdict.metric.value < verdict.metric.high
    assert verdict.noise is not None
    assert verdict.noise.value == pytest.approx(task.summary(engines["int8"].rows, CLASSES)["sqnr_db"])
    equal = judge(task, engines["equal"], engines["fp32"], Accuracy(minimum_ratio=0.9))
    assert equal.noise is None
    assert equal.outcome.value == "undecided"  # equal on 30 images, of which 0.9 needs more than that
    assert judge(task, engines["equal"], engines["fp32"], Accuracy(minimum_ratio=0.9), images=1000).passed
    assert task.estimate(engines["fp32"].rows, engines["fp32"].rows, 1.0).value == pytest.approx(0.0)


@pytest.mark.parametrize("name", TaskName, ids=lambda name: name.value)
def test_a_slice_of_the_images_is_judged_as_if_it_were_all(name: TaskName) -> None:
    task, (fp32, other) = get_task(name), answers(name)
    targets, middle = task.targets(image_set(name, known=True)), mean(name, fp32)
    part = None if targets is None else targets[10:20]
    whole = task.per_image(other, targets, fp32, middle)[10:20]
    alone = task.summary(task.per_image(other[10:20], part, fp32[10:20], middle), CLASSES)
    found = task.summary(whole, CLASSES)
    assert {key: value for key, value in found.items() if key != "outputs"} == pytest.approx(
        {key: value for key, value in alone.items() if key != "outputs"}
    )
