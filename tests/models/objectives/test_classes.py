"""What training measures of classes, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from enginewright.data.imageset import IGNORED
from enginewright.errors import ModelError
from enginewright.models import objectives
from enginewright.models.objectives import objective_of

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


WRONG_ANSWERS = [
    pytest.param(
        SEGMENTATION, (2, 3, 4, 4), (2, 4, 4), r"answers 3 classes and a target is class 7; give it 8", id="few"
    ),
    pytest.param(CLASSIFICATION, (2, 3), (2,), r"answers 3 classes and a target is class 7", id="few of a whole"),
    pytest.param(
        SEGMENTATION, (2, 9), (2, 4, 4), r"\[N, 9\] and its targets ask for \[N, classes, 4, 4\]", id="vector"
    ),
    pytest.param(SEGMENTATION, (2, 9, 2, 2), (2, 4, 4), r"answers \[N, 9, 2, 2\]", id="a quarter of the pixels"),
    pytest.param(
        CLASSIFICATION, (2, 9, 4, 4), (2,), r"\[N, 9, 4, 4\] and its targets ask for \[N, classes\]", id="a map"
    ),
]


@pytest.mark.parametrize(("objective", "answered", "targets", "text"), WRONG_ANSWERS)
def test_answers_that_cannot_be_the_targets_are_one_sentence(
    objective: objectives.Objective, answered: tuple[int, ...], targets: tuple[int, ...], text: str
) -> None:
    pair = torch.zeros(answered), torch.full(targets, 7)
    for judge in (objective.loss, lambda *pair: objective.evaluate(iter([pair]))):
        with pytest.raises(ModelError, match=text):
            judge(*pair)


def test_a_model_of_several_outputs_is_not_trained_here() -> None:
    with pytest.raises(ModelError, match="returns a dict, and train_reference trains what returns one tensor"):
        CLASSIFICATION.loss({"logits": torch.zeros(2, 3)}, torch.zeros(2))


def test_a_task_without_an_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(objectives.OBJECTIVES, "segmentation")
    with pytest.raises(
        ModelError, match=r"no objective for model.task segmentation; add one to enginewright\.models\.objectives"
    ):
        objective_of("segmentation")
