"""mAP: hotcoco gives COCO's figures, and the draws of the bootstrap are sets of images like any other."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from enginewright.tasks.detection import precision
from enginewright.tasks.detection.boxes import Detections
from enginewright.tasks.detection.precision import Truths

SETS = 1000
MOST = 300
Sets = tuple[list[Detections], list[Truths], int]


def random_sets(seed: int) -> Sets:
    """Up to 11 images of up to 4 classes: boxes near the truths and elsewhere, equal scores, crowds, empty images."""
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 12)), int(rng.integers(1, 5))
    truths, found = [], []
    for _ in range(images):
        count = int(rng.integers(0, 6))
        low, sides = rng.uniform(0, 200, (count, 2)), rng.uniform(4, 150, (count, 2))
        area, crowd = sides.prod(axis=1) * rng.uniform(0.5, 1, count), rng.random(count) < 0.1
        truth = np.column_stack([low, low + sides, rng.integers(0, classes, count), area, crowd])
        rows: list[list[float]] = []
        for own in truth:
            for _ in range(rng.integers(0, 3)):
                kind = float(own[4] if rng.random() < 0.8 else rng.integers(0, classes))
                rows.append([*(own[:4] + rng.normal(0, 4, 4)), np.round(rng.random(), 1), kind])
        for _ in range(rng.integers(0, 3)):
            corner = rng.uniform(0, 200, 2)
            rows.append(
                [*corner, *(corner + rng.uniform(1, 50, 2)), np.round(rng.random(), 1), float(rng.integers(0, classes))]
            )
        stored = np.array(rows, np.float32).reshape(-1, 6)
        truths.append(truth)
        found.append(stored[np.argsort(-stored[:, 4], kind="stable")])
    return found, truths, classes


def plainly(sets: Sets) -> list[float]:
    """The metrics in the order of METRICS by faster-coco-eval; NaN where there is no truth."""
    coco = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval needs Python 3.10")
    found, truths, classes = sets
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(precision._dataset(truths, classes))
        evaluated = coco.COCOeval_faster(truth, truth.loadRes(precision._results(found)), "bbox", extra_calc=False)
        evaluated.params.maxDets = [1, 10, MOST]
        evaluated.evaluate()
        evaluated.accumulate()
    curves = evaluated.eval["precision"]
    every = curves[:, :, :, 0, -1]
    parts: list[Any] = [every, every[0], every[5], *(curves[:, :, :, size, -1] for size in (1, 2, 3))]
    return [float(part[part > -1].mean()) if (part > -1).any() else float("nan") for part in parts]


def test_hotcoco_equals_faster_coco_eval_on_random_sets() -> None:
    compared = 0
    for seed in range(SETS):
        sets = random_sets(seed)
        if sum(map(len, sets[0])) == 0 or sum(map(len, sets[1])) == 0:
            continue  # faster-coco-eval loads no empty list
        ours = precision.evaluate(*sets, MOST)
        assert np.allclose(
            [ours[name] for name in precision.METRICS], plainly(sets), rtol=0, atol=1e-12, equal_nan=True
        )
        compared += 1
    assert compared > 0.9 * SETS


def test_a_draw_is_worth_what_the_set_of_its_images_is() -> None:
    """An image drawn twice counts as two images; one that was not drawn is not there.

    Of equal scores the order would differ: of two copies of an image those of the first go first.
    """
    rng = np.random.default_rng(0)
    for seed in range(100):
        found, truths, classes = random_sets(seed)
        for rows in found:
            rows[:, 4] = np.sort(rng.random(len(rows)))[::-1]
        drawn = rng.integers(0, len(found), len(found))
        times = np.bincount(drawn, minlength=len(found)).astype(np.float64)[None]
        value = precision.weighted(precision.matches(found, truths, classes, MOST), times)[0]
        order = np.sort(drawn)  # equal scores keep the order of the images
        again = precision.evaluate([found[i] for i in order], [truths[i] for i in order], classes, MOST)["map50_95"]
        assert value == pytest.approx(again, abs=1e-12, nan_ok=True), seed


def test_the_whole_set_drawn_once_is_the_metric() -> None:
    for seed in range(100):
        sets = random_sets(seed)
        value = precision.weighted(precision.matches(*sets, MOST), np.ones((1, len(sets[0]))))[0]
        assert value == pytest.approx(precision.evaluate(*sets, MOST)["map50_95"], abs=1e-12, nan_ok=True), seed


NOTHING = np.empty((0, 6), np.float32)
ONE_TRUTH = np.array([[10, 10, 30, 30, 0, 400, 0]], np.float64)
ONE_FOUND = np.array([[10, 10, 30, 30, 0.9, 0]], np.float32)


@pytest.mark.parametrize(
    ("found", "truths", "value"),
    [
        pytest.param([ONE_FOUND], [ONE_TRUTH], 1.0, id="found"),
        pytest.param([NOTHING], [ONE_TRUTH], 0.0, id="nothing found"),
        pytest.param([NOTHING], [ONE_TRUTH[:0]], float("nan"), id="nothing to find"),
        pytest.param([ONE_FOUND, ONE_FOUND], [ONE_TRUTH, ONE_TRUTH[:0]], 0.5, id="as often beside it, before it"),
    ],
)
def test_small_sets(found: list[Detections], truths: list[Truths], value: float) -> None:
    matched = precision.matches(found, truths, 1, MOST)
    if len(found) == 1:
        assert precision.evaluate(found, truths, 1, MOST)["map50_95"] == pytest.approx(value, nan_ok=True)
        assert precision.weighted(matched, np.ones((1, 1)))[0] == pytest.approx(value, nan_ok=True)
    else:  # of equal scores the earlier image's goes first, so the wrong one comes after
        assert precision.evaluate(found, truths, 1, MOST)["map50_95"] == pytest.approx(1.0)
        assert precision.evaluate(found[::-1], truths[::-1], 1, MOST)["map50_95"] == pytest.approx(value)


def test_fp32s_detections_stand_in_for_truths() -> None:
    found = np.array([[0, 0, 10, 20, 0.9, 3], [5, 5, 6, 6, 0.2, 1]], np.float32)
    assert precision.unlabelled(found, 0.25).tolist() == [[0, 0, 10, 20, 3, 200, 0]]
