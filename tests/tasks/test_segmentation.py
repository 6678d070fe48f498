"""Segmentation's figures against counting by hand and pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from enginewright.data import ImageSet
from enginewright.data.imageset import IGNORED
from enginewright.errors import DataError
from enginewright.statistics import Resampled, unseen
from enginewright.tasks.segmentation import CONFUSION_ROWS, TASK
from enginewright.tasks.tables import CONFUSION_CLASSES, OTHER

CLASSES = 5
RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.integers(0, CLASSES, (30, 8, 7)).astype(np.uint8)
FP32 = RANDOM.normal(size=(30, CLASSES, 8, 7)).astype(np.float32) + 2 * (
    np.arange(CLASSES)[:, None, None] == TARGETS[:, None]
)
INT8 = (FP32 + RANDOM.normal(size=FP32.shape)).astype(np.float32)


def logits(answers: npt.ArrayLike, classes: int = CLASSES) -> npt.NDArray[np.float32]:
    """Outputs whose argmax these answers [n, H, W] are."""
    return np.moveaxis(np.eye(classes, dtype=np.float32)[np.asarray(answers)], -1, 1)


def by_hand(answers: npt.NDArray[np.int64], targets: npt.NDArray[np.uint8], classes: int = CLASSES) -> float:
    """Mean IoU by sets of pixels."""
    shares = []
    for index in range(classes):
        has = {tuple(place) for place in np.argwhere(targets == index)}
        given = {tuple(place) for place in np.argwhere((answers == index) & (targets != IGNORED))}
        if has | given:
            shares.append(len(has & given) / len(has | given))
    return float(np.mean(shares))


def test_mean_iou_of_four_pixels() -> None:
    """Class 0: 1 of 2 pixels; class 1: 2 of 3; class 2 is neither there nor answered."""
    rows = TASK.score(logits([[[0, 1], [1, 1]]], 3), np.array([[[0, 0], [1, 1]]], np.uint8), None)
    assert TASK.summary(rows, 3) == pytest.approx({"mean_iou": (1 / 2 + 2 / 3) / 2, "pixel_accuracy": 3 / 4})
    assert rows["cells"][0].tolist() == [[0, 0, 1], [0, 1, 1], [1, 1, 2]]


def test_figures_equal_those_of_sets_of_pixels() -> None:
    found = TASK.summary(TASK.score(INT8, TARGETS, FP32), CLASSES)
    answers, reference = INT8.argmax(axis=1), FP32.argmax(axis=1)
    assert found["mean_iou"] == pytest.approx(by_hand(answers, TARGETS))
    assert found["pixel_accuracy"] == pytest.approx((answers == TARGETS).mean())
    assert found["agreement"] == pytest.approx((answers == reference).mean())
    signal, noise = np.square(FP32.astype(np.float64)).sum(), np.square(FP32.astype(np.float64) - INT8).sum()
    assert found["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise))
    assert found["identical_to_fp32"] is False


def test_an_image_has_the_iou_of_its_own_pixels() -> None:
    rows = TASK.score(INT8, TARGETS, None)
    np.testing.assert_allclose(
        rows["iou"], [by_hand(INT8[i : i + 1].argmax(axis=1), TARGETS[i : i + 1]) for i in range(30)]
    )


def test_ignored_pixels_do_not_count() -> None:
    targets = TARGETS.copy()
    targets[:, :3] = IGNORED
    found = TASK.summary(TASK.score(INT8, targets, FP32), CLASSES)
    assert found["mean_iou"] == pytest.approx(by_hand(INT8.argmax(axis=1), targets))
    assert found["pixel_accuracy"] == pytest.approx((INT8.argmax(axis=1) == TARGETS)[:, 3:].mean())
    assert found["agreement"] == pytest.approx((INT8.argmax(axis=1) == FP32.argmax(axis=1)).mean())  # needs no target
    nothing = TASK.score(INT8, np.full_like(targets, IGNORED), FP32)
    assert "mean_iou" not in TASK.summary(nothing, CLASSES)
    assert "mean_iou_difference" not in TASK.compare(nothing, nothing, 0.95)


@pytest.mark.parametrize("size", [1, 7, 30], ids=lambda size: f"batch {size}")
def test_batches_add_up_to_the_whole(size: int) -> None:
    pieces = [TASK.score(INT8[i : i + size], TARGETS[i : i + size], FP32[i : i + size]) for i in range(0, 30, size)]
    assert TASK.summary(pd.concat(pieces), CLASSES) == pytest.approx(
        TASK.summary(TASK.score(INT8, TARGETS, FP32), CLASSES)
    )


@pytest.mark.slow
def test_bootstrap_equals_drawing_the_images_themselves() -> None:
    """The interval from areas, against mean IoU of drawn pixels by another generator."""
    engine, fp32 = TASK.score(INT8, TARGETS, FP32), TASK.score(FP32, TARGETS, None)
    found = TASK.compare(engine, fp32, 0.9)
    random, differences = np.random.default_rng(7), []
    for _ in range(400):
        drawn = random.integers(0, 30, 30)
        differences.append(
            by_hand(INT8[drawn].argmax(axis=1), TARGETS[drawn]) - by_hand(FP32[drawn].argmax(axis=1), TARGETS[drawn])
        )
    low, high = np.quantile(differences, [0.05, 0.95])
    width = high - low
    estimate = TASK.estimate(engine, fp32, 1.0)
    assert isinstance(estimate, Resampled)
    assert np.quantile(estimate.drawn, [0.05, 0.95]) == pytest.approx([low, high], abs=0.15 * width)
    room = unseen(0.9, 30)  # wider than what was drawn: 30 images say little
    assert found["mean_iou_difference_low"] == pytest.approx(estimate.value - room)
    assert found["mean_iou_difference_high"] == pytest.approx(estimate.value + room)
    assert found["mean_iou_difference_high"] < 0  # the noise costs more than chance
    assert found == TASK.compare(engine, fp32, 0.9)  # the same twice
    assert found["images_worse"] > found["images_better"]


def test_interval_of_the_agreement_is_that_of_scipy_over_images() -> None:
    found = TASK.compare(TASK.score(INT8, None, FP32), TASK.score(FP32, None, None), 0.9)
    shares = (INT8.argmax(axis=1) == FP32.argmax(axis=1)).mean(axis=(1, 2))
    expected = stats.bootstrap(
        (shares,), np.mean, confidence_level=0.9, method="percentile", random_state=1
    ).confidence_interval
    width = expected.high - expected.low
    assert set(found) == {"agreement_low", "agreement_high"}  # without targets nothing else
    estimate = TASK.estimate(TASK.score(INT8, None, FP32), TASK.score(FP32, None, None), 0.0)
    assert isinstance(estimate, Resampled)
    assert np.quantile(estimate.drawn, [0.05, 0.95]) == pytest.approx([expected.low, expected.high], abs=0.1 * width)
    room = unseen(0.9, 30)
    assert (found["agreement_low"], found["agreement_high"]) == pytest.approx(
        (estimate.value - room, estimate.value + room)
    )


def test_one_image_has_a_difference_and_leaves_everything_open() -> None:
    found = TASK.compare(TASK.score(INT8[:1], TARGETS[:1], None), TASK.score(FP32[:1], TARGETS[:1], None), 0.95)
    assert "mean_iou_difference" in found
    assert (found["mean_iou_difference_low"], found["mean_iou_difference_high"]) == (-1.0, 1.0)


def test_equal_engines_leave_room_for_the_images_that_were_not_seen() -> None:
    rows = TASK.score(FP32, TARGETS, FP32)
    found = TASK.compare(rows, rows, 0.95)
    assert (found["mean_iou_difference"], found["images_worse"]) == (0, 0)
    assert (found["mean_iou_difference_low"], found["mean_iou_difference_high"]) == pytest.approx(
        (-unseen(0.95, 30), unseen(0.95, 30))
    )
    assert TASK.summary(rows, CLASSES)["identical_to_fp32"] is True


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        pytest.param(
            np.full((2, 8, 7), 5), "b.png has a pixel of class 5, and the model knows 5", id="beyond the classes"
        ),
        pytest.param(
            np.zeros((2, 4, 7)),
            r"a.png has targets of \[4, 7\] pixels, and the model answers \[8, 7\]; let it upsample",
            id="another size",
        ),
    ],
)
def test_targets_that_are_no_answers(targets: npt.NDArray[np.float64], text: str) -> None:
    targets[0] = IGNORED
    with pytest.raises(DataError, match=text):
        TASK.check_batch(INT8[:2], targets.astype(np.uint8), ("a.png", "b.png"))
    TASK.check_batch(INT8, TARGETS, [str(index) for index in range(30)])


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        pytest.param(np.full((2, 8, 7), -1, np.int64), "a.png has a pixel of class -1, and the model", id="negative"),
        pytest.param(
            np.zeros((2, 8, 7), np.float32), "a.png has targets of float32, and a class is a whole", id="floats"
        ),
    ],
)
def test_targets_of_other_dtypes(targets: npt.NDArray[Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        TASK.check_batch(INT8[:2], targets, ("a.png", "b.png"))


def image_set(targets: npt.NDArray[np.uint8], classes: int) -> ImageSet:
    names = tuple(f"{index}.png" for index in range(len(targets)))
    return ImageSet(
        {"images": np.zeros((*targets.shape, 1), np.uint8)},
        None,
        tuple(f"c{index}" for index in range(classes)),
        names,
        [Path("x")],
        targets,
    )


def test_tables_agree_with_the_figures() -> None:
    rows = {"fp32": TASK.score(FP32, TARGETS, None), "int8": TASK.score(INT8, TARGETS, FP32)}
    tables = TASK.tables(image_set(TARGETS, CLASSES), rows, CLASSES)
    classes, changed = tables["classes.csv"], tables["changed.csv"]
    assert classes["iou_int8"].mean() == pytest.approx(TASK.summary(rows["int8"], CLASSES)["mean_iou"])
    np.testing.assert_allclose(classes["iou_delta_int8"], classes["iou_int8"] - classes["iou_fp32"])
    assert classes["pixels"].tolist() == np.bincount(TARGETS.ravel()).tolist()
    assert changed["pixels"].sum() == (INT8.argmax(axis=1) != FP32.argmax(axis=1)).sum()
    assert changed["pixels"].is_monotonic_decreasing
    confusion = tables["confusion_int8.csv"]
    assert len(confusion) == TARGETS.size
    assert (confusion["actual"] == confusion["predicted"]).mean() == pytest.approx(
        (INT8.argmax(axis=1) == TARGETS).mean()
    )
    assert tables["predictions.csv"]["int8"].tolist() == rows["int8"]["iou"].tolist()


def test_confusion_of_many_pixels_and_classes_stays_small() -> None:
    classes = CONFUSION_CLASSES + 10
    targets = RANDOM.integers(0, classes, (20, 64, 64)).astype(np.uint8)
    wrong = np.where(
        targets < CONFUSION_CLASSES, (targets + CONFUSION_CLASSES) % classes, targets
    )  # the first twenty are never right
    rows = {"fp32": TASK.score(logits(wrong, classes), targets, None)}
    confusion = TASK.tables(image_set(targets, classes), rows, classes)["confusion_fp32.csv"]
    assert len(confusion) == pytest.approx(CONFUSION_ROWS, rel=0.01)
    assert confusion["actual"].nunique() == CONFUSION_CLASSES
    assert OTHER in set(confusion["predicted"])
