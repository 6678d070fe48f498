"""Every task of ours is a module, and keeps the contract on arrays of its own shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from enginewright import tasks
from enginewright.accuracy.gate import judge
from enginewright.config import Accuracy
from enginewright.data import ImageSet
from enginewright.errors import ModelError
from enginewright.interface import Interface, TensorSpec
from enginewright.models.objectives import OBJECTIVES, objective_of
from enginewright.registry import TASKS
from enginewright.tasks import get_task
from enginewright.tasks.base import Evaluation, Outputs, Targets, Task, interface_of, mean_of, together

RANDOM = np.random.default_rng(0)
CLASSES, IMAGES = 4, 30
SHAPES: dict[str, Optional[tuple[int, ...]]] = {  # of an image's targets, None where there are none
    "classification": (),
    "segmentation": (6, 5),
    "outputs": None,
}
TARGETED = [name for name, shape in SHAPES.items() if shape is not None]
KNOWN = [pytest.param(name, True, id=f"{name}-targets") for name in TARGETED] + [
    pytest.param(name, False, id=f"{name}-no targets") for name in SHAPES
]


def image_set(name: str, known: bool) -> ImageSet:
    pixels, names = np.zeros((IMAGES, 6, 5, 1), np.uint8), tuple(f"{index}.png" for index in range(IMAGES))
    shape = SHAPES[name] or ()
    targets = RANDOM.integers(0, CLASSES, (IMAGES, *shape))
    labels = targets if known and not shape else None
    return ImageSet(
        {"images": pixels},
        labels,
        tuple("abcd"),
        names,
        [Path("x")],
        targets.astype(np.uint8) if known and shape else None,
    )


def answers(name: str) -> tuple[Outputs, Outputs]:
    """FP32's and another engine's."""
    fp32 = RANDOM.normal(size=(IMAGES, CLASSES, *(SHAPES[name] or ()))).astype(np.float32)
    other = (fp32 + 0.3 * RANDOM.normal(size=fp32.shape)).astype(np.float32)
    if get_task(name).every_output:
        return together({"scores": fp32, "one": fp32[:, :1]}), together({"scores": other, "one": other[:, :1]})
    return fp32, other


def mean(name: str, fp32: Outputs) -> Optional[Outputs]:
    return mean_of(fp32) if get_task(name).every_output else None


def test_every_task_is_a_module_and_reverse() -> None:
    folder = Path(str(tasks.__file__)).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "classes", "metrics", "tables"}
    packages = {path.parent.name for path in folder.glob("*/task.py")}
    assert modules == set(SHAPES)  # of detection see tests/tasks/detection
    assert packages == {"detection"}
    assert modules | packages == set(TASKS.names())


def test_what_has_targets_can_be_trained_for() -> None:
    assert set(OBJECTIVES) == {*TARGETED, "detection"}


@pytest.mark.parametrize("name", TARGETED, ids=lambda name: name)
def test_training_and_validation_speak_of_the_same_figure(name: str) -> None:
    objective, task = objective_of(name), get_task(name)
    assert (objective.metric, objective.title) == (task.metric, task.title)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("classification", (8, 10)),
        ("classification", (8, 2)),
        ("segmentation", (8, 3, 5, 5)),
        ("outputs", (8, 10)),
        ("outputs", (8,)),
        ("outputs", (8, 4, 5, 5)),
    ],
)
def test_a_task_takes_what_it_judges(name: str, shape: tuple[int, ...]) -> None:
    get_task(name).check(interface_of({"y": np.zeros(shape)}), "the model")


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        pytest.param("classification", (8, 1), "[N, 1], and model.task classification judges [N, classes]", id="one"),
        pytest.param("classification", (8,), "[N], and model.task classification judges", id="no classes"),
        pytest.param("classification", (8, 4, 5, 5), "[N, 4, 5, 5], and model.task classification", id="pixels"),
        pytest.param("segmentation", (8, 4), "[N, 4], and model.task segmentation judges [N, classes, H, W]", id="no"),
        pytest.param("segmentation", (8, 1, 5, 5), "[N, 1, 5, 5], and model.task segmentation", id="one class"),
        pytest.param("outputs", (), "[], and model.task outputs judges [N, ...]; set model.task", id="no batch"),
    ],
)
def test_a_task_refuses_what_it_cannot_judge(name: str, shape: tuple[int, ...], sentence: str) -> None:
    """The largest of one value is always the same, so a regression would always agree."""
    with pytest.raises(ModelError, match=re.escape(f"the output 'y' of the model is {sentence}")):
        get_task(name).check(interface_of({"y": np.zeros(shape)}), "the model")


def test_an_axis_without_a_size_may_be_two_classes() -> None:
    logits = TensorSpec("y", np.dtype(np.float32), ("batch", "classes"))
    get_task("classification").check(Interface((), (logits,)), "the model")


def targets_of(task: Task, images: ImageSet) -> Optional[Targets]:
    """As an array: they are of one shape here."""
    found = task.targets(images)
    return None if found is None else np.asarray(found)


@pytest.mark.parametrize(("name", "known"), KNOWN)
def test_contract(name: str, known: bool) -> None:
    task, images = get_task(name), image_set(name, known)
    fp32, other = answers(name)
    targets = targets_of(task, images)
    assert (targets is not None) is known
    rows = {"fp32": task.score(fp32, targets, None), "int8": task.score(other, targets, fp32, mean(name, fp32))}
    assert [len(frame) for frame in rows.values()] == [IMAGES, IMAGES]
    figures = {precision: task.summary(frame, CLASSES) for precision, frame in rows.items()}
    compared = task.compare(rows["int8"], rows["fp32"], 0.95)
    stand_in = task.without_targets
    assert 0 < figures["int8"][stand_in] < 1
    assert stand_in not in figures["fp32"]
    assert (task.metric in figures["fp32"]) is known
    if known:
        difference = compared[f"{task.metric}_difference"]
        assert difference == pytest.approx(figures["int8"][task.metric] - figures["fp32"][task.metric])
        assert compared[f"{task.metric}_difference_low"] <= difference <= compared[f"{task.metric}_difference_high"]
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
        f"{task.class_metric}_delta_int8" if known else f"{task.class_metric if task.every_output else stand_in}_int8"
    ) in tables["classes.csv"]
    assert list(tables["recall.csv"]) == ["class", "precision", "share_right"]
    assert list(tables["confusion_int8.csv"]) == ["actual", "predicted"]
    assert {"precision", "name", "fp32", "predicted"} <= set(tables["changed.csv"])


@pytest.mark.parametrize(("name", "known"), KNOWN)
def test_the_gate_judges_the_metric_with_its_interval_and_the_noise(name: str, known: bool) -> None:
    task, (fp32, other) = get_task(name), answers(name)
    targets = targets_of(task, image_set(name, known))
    engines = {
        "fp32": Evaluation(task.score(fp32, targets, None), CLASSES),
        "int8": Evaluation(task.score(other, targets, fp32, mean(name, fp32)), CLASSES),
        "equal": Evaluation(task.score(fp32, targets, fp32, mean(name, fp32)), CLASSES),
    }
    figure = task.metric if known else task.without_targets
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


@pytest.mark.parametrize("name", SHAPES, ids=lambda name: name)
def test_a_slice_of_the_images_is_judged_as_if_it_were_all(name: str) -> None:
    task, (fp32, other) = get_task(name), answers(name)
    targets, middle = targets_of(task, image_set(name, known=True)), mean(name, fp32)
    part = None if targets is None else targets[10:20]
    whole = task.score(other, targets, fp32, middle)[10:20]
    alone = task.summary(task.score(other[10:20], part, fp32[10:20], middle), CLASSES)
    found = task.summary(whole, CLASSES)
    assert {key: value for key, value in found.items() if key != "outputs"} == pytest.approx(
        {key: value for key, value in alone.items() if key != "outputs"}
    )
