"""What training measures, against counting by hand, and the models that are trained."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from enginewright.data.imageset import IGNORED
from enginewright.errors import ModelError
from enginewright.models import objectives
from enginewright.models.objectives import objective_of
from enginewright.models.segmenter import Segmenter

SEGMENTATION, CLASSIFICATION = objective_of("segmentation"), objective_of("classification")


def logits(answers: list[list[list[int]]], classes: int) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(4 * np.eye(classes, dtype=np.float32)[np.array(answers)], -1, 1).copy())


def test_mean_iou_and_loss_of_two_batches() -> None:
    """Class 0: 2 of 3 pixels, class 1: 2 of 3, class 2 is answered nowhere and nowhere right; one pixel is ignored."""
    batches = [
        (logits([[[0, 1], [0, 0]]], 4), torch.tensor([[[0, 1], [0, 1]]])),
        (logits([[[1, 2], [3, 0]]], 4), torch.tensor([[[1, IGNORED], [3, IGNORED]]])),
    ]
    found = SEGMENTATION.evaluate(iter(batches))
    assert found.metric == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    right, wrong = math.log(math.exp(4) + 3) - 4, math.log(math.exp(4) + 3)
    assert found.loss == pytest.approx((5 * right + wrong) / 6)


def test_top1_and_loss() -> None:
    answers = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    found = CLASSIFICATION.evaluate(iter([(answers[:2], torch.tensor([0, 1])), (answers[2:], torch.tensor([1]))]))
    assert found.metric == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(math.log(1 + math.exp(2)) - 4 / 3)


def test_a_task_without_an_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(objectives.OBJECTIVES, "segmentation")
    with pytest.raises(
        ModelError, match=r"no objective for model.task segmentation; add one to enginewright\.models\.objectives"
    ):
        objective_of("segmentation")


@pytest.mark.parametrize("size", [(28, 28), (16, 40)], ids=str)
def test_segmenter_answers_every_pixel(size: tuple[int, int]) -> None:
    assert Segmenter(in_channels=3, classes=7)(torch.zeros(2, 3, *size)).shape == (2, 7, *size)
