"""What train_reference minimizes and measures for each task. The engines are judged elsewhere
(`enginewright.tasks`), without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Optional

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from enginewright.data import ImageSet
from enginewright.data.columns import Column, Ragged
from enginewright.data.imageset import IGNORED
from enginewright.errors import DataError, ModelError

LABEL_SMOOTHING = 0.05
Answers = Iterable[tuple[Tensor, Tensor]]  # batches of logits [n, classes, ...] and int64 targets [n, ...]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on a whole set."""

    metric: float  # the objective's: a fraction
    loss: float  # mean cross-entropy, nats


@dataclass(frozen=True)
class Objective:
    """How a model is trained for a task, and how it did."""

    metric: str  # in the metrics, as in those of validate_accuracy
    title: str
    of_set: Callable[[ImageSet], Optional[Column]]  # integer targets [N, ...], None where the set has none
    remedy: str  # where the set has none
    loss: Callable[[Tensor, Tensor], Tensor]
    evaluate: Callable[[Answers], Evaluation]

    def targets(self, images: ImageSet, which: str) -> npt.NDArray[Any]:
        """Return the targets [N, ...] of a set, called `which` in messages. Raises DataError if it has none."""
        found = self.of_set(images)
        if found is None:
            raise DataError(
                f"the {which} images have no {self.remedy}, or bring weights of your own (model.weights_from file)"
            )
        if images.varies or isinstance(found, Ragged):
            raise DataError(
                f"the {which} images differ in shape, and train_reference takes batches of one; cut them to one, or"
                " bring weights of your own (model.weights_from file)"
            )
        return found


def objective_of(task: str) -> Objective:
    """Raises ModelError for a task that train_reference cannot train."""
    if task not in OBJECTIVES:
        raise ModelError(
            f"train_reference has no objective for model.task {task}; add one to {__name__}, or bring weights"
            " (model.weights_from file)"
        )
    return OBJECTIVES[task]


def require_fit(logits: Any, targets: Tensor) -> None:
    """Check that a model's answers can be these targets at all.

    Args:
        logits: [n, classes, ...].
        targets: int64 [n, ...].

    Raises:
        ModelError: in what they differ, and what to change.
    """
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"the model returns a {type(logits).__name__}, and train_reference trains what returns one tensor; bring"
            " weights of your own (model.weights_from file)"
        )
    fits = logits.ndim == targets.ndim + 1 and logits.shape[2:] == targets.shape[1:]
    if not fits:
        wanted = ["N", "classes", *map(str, targets.shape[1:])]
        raise ModelError(
            f"the model answers [{', '.join(['N', *map(str, logits.shape[1:])])}] and its targets ask for"
            f" [{', '.join(wanted)}]; return that from its forward"
        )
    counted = targets[targets != IGNORED]
    most = int(counted.max()) if len(counted) else 0
    if most >= logits.shape[1]:
        raise ModelError(
            f"the model answers {logits.shape[1]} classes and a target is class {most}; give it {most + 1} at least, in"
            " model.arguments"
        )


def _label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    require_fit(logits, labels)
    return functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)


def _top1(answers: Answers) -> Evaluation:
    batches, targets = zip(*answers)
    logits, labels = torch.cat(batches), torch.cat(targets)
    require_fit(logits, labels)
    correct = int((logits.argmax(1) == labels).sum())
    return Evaluation(correct / len(labels), float(functional.cross_entropy(logits, labels)))


def _pixel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    require_fit(logits, targets)
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)


def _mean_iou(answers: Answers) -> Evaluation:
    """Mean, over the classes that occur or are answered, of the pixels that are both over those that are either.
    Nothing grows with the set.
    """
    intersection = union = torch.zeros(0)
    loss = pixels = 0.0
    for logits, targets in answers:
        require_fit(logits, targets)
        classes, counted = logits.shape[1], targets != IGNORED
        predicted, wanted = logits.argmax(1)[counted], targets[counted]
        both = torch.bincount(wanted[predicted == wanted], minlength=classes)
        either = torch.bincount(wanted, minlength=classes) + torch.bincount(predicted, minlength=classes) - both
        intersection, union = (both, either) if not len(union) else (intersection + both, union + either)
        loss += float(functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum"))
        pixels += int(counted.sum())
    present = union > 0
    return Evaluation(float((intersection[present].double() / union[present]).mean()), loss / max(pixels, 1))


OBJECTIVES = {
    "classification": Objective(
        "top1",
        "top-1",
        lambda images: images.labels,
        "labels: put them into a sub-folder for each class",
        _label_loss,
        _top1,
    ),
    "segmentation": Objective(
        "mean_iou",
        "mean IoU",
        lambda images: images.targets,
        "targets by pixel: take a data.source that has them, such as digit_strokes",
        _pixel_loss,
        _mean_iou,
    ),
}
