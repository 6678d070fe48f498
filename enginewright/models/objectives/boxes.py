"""Boxes with a class each: which predictions answer for which box, the loss of both, and mAP."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from enginewright.data import ImageSet
from enginewright.data.columns import Column, described
from enginewright.errors import DataError, ModelError
from enginewright.models.detector import BOX, Predictions
from enginewright.models.objectives.base import Answers, Evaluation, Objective, Rows, Targets, require_one_shape
from enginewright.tasks.detection.boxes import Limits
from enginewright.tasks.detection.contracts import Yolo
from enginewright.tasks.detection.precision import CROWD, TRUTH_CLASS, TRUTH_COLUMNS, Truths, evaluate

NOTHING = -1  # the class of a row that fills up an image with fewer boxes than another of its batch
NEAR = 1.5  # strides: how far from a box's centre a point may lie that answers for it
ANSWERING = 6  # the most predictions that answer for a box
SCORE_POWER, OVERLAP_POWER = 0.5, 4.0  # what counts in how well a prediction answers: the overlap, most of all
BACKGROUND = 0.75  # weight of a score where nothing is, times its square
BOX_WEIGHT = 2.5  # of the loss of boxes beside that of scores
DISTANCE_WEIGHT = 0.5  # likewise, of the distributions of their distances
TINY = 1e-6


def _targets(images: ImageSet, which: str) -> Targets:
    """Boxes in pixels of the input: float32 [rows, m, 7] as `Truths`, m at least 1, filled up with NOTHING."""
    found = images.targets
    if found is None or not _are_boxes(found):
        raise DataError(
            f"the {which} images have no boxes: take a data.source that has them, such as digit_scenes, or bring"
            " weights of your own (model.weights_from file)"
        )
    require_one_shape(images, which)
    truths: list[Truths] = [np.array(row, np.float64) for row in found]
    for truth, geometry in zip(truths, images.geometries(slice(None))):
        truth[:, :BOX] = geometry.boxes_to_input(truth[:, :BOX])

    def rows(rows: Rows) -> Tensor:
        chosen = [truths[row] for row in rows]
        filled = np.zeros((len(rows), max(1, *map(len, chosen)), TRUTH_COLUMNS), np.float32)
        filled[:, :, TRUTH_CLASS] = NOTHING
        for image, truth in zip(filled, chosen):
            image[: len(truth)] = truth
        return torch.from_numpy(filled)

    return rows


def _are_boxes(column: Column) -> bool:
    shape = described(column)  # [N, m, 7]
    return column.dtype == np.float64 and len(shape) == 3 and shape[2] == TRUTH_COLUMNS


def require_fit(classes: int, targets: Tensor) -> None:
    """Raise ModelError if a box is of a class that a model of so many does not know."""
    most = int(targets[..., TRUTH_CLASS].max())
    if most >= classes:
        raise ModelError(
            f"the model answers {classes} classes and a box is of class {most}; give it {most + 1} at least, in"
            " model.arguments"
        )


def loss(predictions: Any, targets: Tensor) -> Tensor:
    """Cross-entropy of the scores with how well each prediction answers for a box; of those that do, 1 - GIoU, and
    cross-entropy of the distributions of distances with the two bins beside the right one.

    As in H. Zhang et al., "VarifocalNet", CVPR 2021, a score shall say how much the box overlaps, and one where nothing
    is counts by its square; H. Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019; X. Li et al.,
    "Generalized Focal Loss", NeurIPS 2020.

    Args:
        predictions: of a batch.
        targets: float32 [n, m, 7].

    Raises:
        ModelError: the model returns no `Predictions`, or of too few classes.
    """
    if not isinstance(predictions, Predictions):
        raise ModelError(
            f"the model returns a {type(predictions).__name__} in training mode, and train_reference trains detectors"
            f" that return {Predictions.__module__}.Predictions; return that, or bring weights of your own"
            " (model.weights_from file)"
        )
    require_fit(predictions.logits.shape[2], targets)
    quality, which = assigned(predictions, targets)
    columns = targets.shape[2]
    answered = targets.gather(1, which[..., None].expand(-1, -1, columns))  # [n, A, 7]
    classes = answered[..., TRUTH_CLASS].clamp(min=0).long()
    wanted = torch.zeros_like(predictions.logits).scatter_(2, classes[..., None], quality[..., None])
    weight = torch.where(wanted > 0, wanted, BACKGROUND * predictions.logits.detach().sigmoid() ** 2)
    scores = functional.binary_cross_entropy_with_logits(predictions.logits, wanted, weight, reduction="sum")
    _, generalized = overlaps(predictions.boxes, answered[..., :BOX])
    edges = BOX_WEIGHT * ((1 - generalized) * quality).sum()
    if predictions.distances is not None:
        edges = edges + DISTANCE_WEIGHT * (_distance_loss(predictions, answered[..., :BOX]) * quality).sum()
    return (scores + edges) / quality.sum().clamp(min=1)


def _distance_loss(predictions: Predictions, boxes: Tensor) -> Tensor:
    """Mean over the edges of boxes [n, A, 4], each split between the two bins that it lies between: [n, A]."""
    assert predictions.distances is not None
    logs = predictions.distances.log_softmax(-1)  # [n, A, 4, bins]
    reach = torch.cat([predictions.points - boxes[..., :2], boxes[..., 2:] - predictions.points], 2)
    wanted = (reach / predictions.strides[:, None]).clamp(0, logs.shape[-1] - 1)
    below = wanted.floor().clamp(max=logs.shape[-1] - 2).long()
    share = wanted - below
    split = torch.stack([1 - share, share], -1) * logs.gather(-1, torch.stack([below, below + 1], -1))
    return -split.sum(-1).mean(-1)


@torch.no_grad()
def assigned(predictions: Predictions, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which box each prediction answers for, and how well: those that fit a box best in score and overlap together.

    As in C. Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021. Only points inside a box and near
    its centre answer for it, so that a new network learns from boxes around its objects.

    Args:
        predictions: of a batch.
        targets: float32 [n, m, 7], m at least 1.

    Returns:
        float32 [n, A], 0 where a prediction answers for nothing, and for each box at most its best overlap; int64
        [n, A], a row of the targets.
    """
    boxes, points = targets[:, :, None, :BOX], predictions.points
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    near = ((points - centres).abs() < NEAR * predictions.strides[:, None]).all(-1)
    inside = (points > boxes[..., :2]).all(-1) & (points < boxes[..., 2:]).all(-1)
    real = (targets[..., TRUTH_CLASS] != NOTHING) & (targets[..., CROWD] == 0)
    candidates = near & inside & real[..., None]  # [n, m, A]
    overlap, _ = overlaps(predictions.boxes[:, None], boxes)
    classes = targets[..., TRUTH_CLASS].clamp(min=0).long()
    scores = predictions.logits.sigmoid().transpose(1, 2)  # [n, classes, A]
    scores = scores.gather(1, classes[..., None].expand(-1, -1, scores.shape[2]))
    fit = scores.clamp(min=TINY) ** SCORE_POWER * overlap.clamp(min=TINY) ** OVERLAP_POWER * candidates
    best = fit.topk(min(ANSWERING, fit.shape[2]), dim=2).indices
    fit = fit * torch.zeros_like(fit).scatter_(2, best, 1.0)
    highest = fit.amax(2, keepdim=True).clamp(min=torch.finfo(fit.dtype).tiny)
    quality = fit / highest * (overlap * (fit > 0)).amax(2, keepdim=True)
    which = fit.max(1).indices
    return quality.gather(1, which[:, None])[:, 0], which


def overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes [..., 4], x1 y1 x2 y2, and the generalized one, which tells how far boxes lie
    apart: [...] each.
    """
    both = _area(torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:]))
    around = _area(torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:]))
    union = _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:]) - both
    overlap = both / union.clamp(min=TINY)
    return overlap, overlap - (around - union) / around.clamp(min=TINY)


def _area(low: Tensor, high: Tensor) -> Tensor:
    sides = (high - low).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def mean_precision(answers: Answers) -> Evaluation:
    """mAP50-95 of outputs in the contract `yolo`, in pixels of the input."""
    found, truths, classes, limits = [], [], 0, Limits()
    for output, targets in answers:
        if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[1] <= BOX:
            raise ModelError(
                f"the model returns {_described(output)} in eval mode, and train_reference judges detectors that return"
                f" {Yolo.means}; return that, or bring weights of your own (model.weights_from file)"
            )
        classes = output.shape[1] - BOX
        require_fit(classes, targets)
        found += Yolo().decode({"output": output.numpy()}, (0, 0), limits)
        truths += [rows[rows[:, TRUTH_CLASS] != NOTHING].double().numpy() for rows in targets]
    return Evaluation(evaluate(found, truths, classes, limits.detections)["map50_95"])


def _described(output: Any) -> str:
    return str(list(output.shape)) if isinstance(output, Tensor) else f"a {type(output).__name__}"


DETECTION = Objective("map50_95", "mAP50-95", _targets, lambda images, targets: (images, targets), loss, mean_precision)
