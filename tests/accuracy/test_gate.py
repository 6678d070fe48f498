"""The gate's bounds, to the image."""

from __future__ import annotations

import pandas as pd
import pytest

from enginewright.accuracy.gate import failure, judge
from enginewright.accuracy.tasks import get_task
from enginewright.config import Accuracy, GateMode, Precision, TaskName

CLASSIFICATION, SEGMENTATION = get_task(TaskName.classification), get_task(TaskName.segmentation)


@pytest.mark.parametrize(
    ("settings", "fp32", "int8", "passed"),
    [
        pytest.param(Accuracy(gate=GateMode.relative, minimum_ratio=0.99), {"top1": 0.98}, {"top1": 0.9702}, True, id="relative, exactly on the bound"),
        pytest.param(Accuracy(gate=GateMode.relative, minimum_ratio=0.99), {"top1": 0.98}, {"top1": 0.9701}, False, id="relative, one image of 10,000 under"),
        pytest.param(Accuracy(gate=GateMode.relative, minimum_ratio=1.0), {"top1": 0.5}, {"top1": 0.51}, True, id="relative, better than FP32"),
        pytest.param(Accuracy(gate=GateMode.absolute, maximum_loss=0.01), {"top1": 0.98}, {"top1": 0.97}, True, id="absolute, exactly on the bound"),
        pytest.param(Accuracy(gate=GateMode.absolute, maximum_loss=0.01), {"top1": 0.98}, {"top1": 0.969}, False, id="absolute, under"),
        pytest.param(Accuracy(gate=GateMode.relative, minimum_ratio=0.95), {}, {"agreement": 0.95}, True, id="no labels, agreement on the bound"),
        pytest.param(Accuracy(gate=GateMode.absolute, maximum_loss=0.01), {}, {"agreement": 0.98}, False, id="no labels, agreement under"),
        pytest.param(Accuracy(gate=GateMode.relative), {"top1": 0.0}, {"top1": 0.0}, True, id="FP32 is never right"),
    ],
)
def test_verdict(settings: Accuracy, fp32: dict[str, float], int8: dict[str, float], passed: bool) -> None:
    assert judge(CLASSIFICATION, int8, fp32, settings).passed is passed


def test_failure_names_the_three_worst_classes_in_order() -> None:
    settings = Accuracy(gate=GateMode.relative, minimum_ratio=0.99)
    classes = pd.DataFrame({"class": list("abcde"), "recall_delta_int8": [0.0, -0.2, -0.01, -0.5, 0.1]})
    sentence = failure(CLASSIFICATION, judge(CLASSIFICATION, {"top1": 0.9}, {"top1": 1.0}, settings), Precision.int8, classes, settings)
    assert "top-1 of int8 is 0.9000, under the bound 0.9900 (fp32: 0.99 x 1.0000)" in sentence
    assert "'d' (-0.500), 'b' (-0.200) and 'c' (-0.010)" in sentence
    assert "accuracy.minimum_ratio" in sentence


def test_another_task_is_held_by_its_own_figure_and_names_its_own_losses() -> None:
    settings = Accuracy(gate=GateMode.absolute, maximum_loss=0.01)
    verdict = judge(SEGMENTATION, {"mean_iou": 0.7, "top1": 1.0, "agreement": 1.0}, {"mean_iou": 0.8}, settings)
    assert (verdict.passed, verdict.figure) == (False, "mean_iou")
    assert verdict.bound == pytest.approx(0.79)
    classes = pd.DataFrame({"class": ["road", "sky"], "iou_delta_fp16": [-0.2, 0.0]})
    sentence = failure(SEGMENTATION, verdict, Precision.fp16, classes, settings)
    assert "mean IoU of fp16 is 0.7000" in sentence
    assert "lost most are 'road' (-0.200) (artifacts/accuracy/classes.csv)" in sentence
