"""One class for an image, or for each of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.data.imageset import IGNORED
from enginewright.errors import DataError, ModelError
from enginewright.models.objectives.base import Answers, Evaluation, Objective, Rows, Targets, require_one_shape

LABEL_SMOOTHING = 0.05
# Augmentation, the extremes of a uniform draw: small enough that a 6 stays a 6.
ROTATION_RADIANS = 0.26  # 15 degrees
SHIFT = 0.14  # of half the width: 2 of 28 pixels
ZOOM = 0.1


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


def _targets(column: Callable[[ImageSet], Optional[Column]], remedy: str) -> Callable[[ImageSet, str], Targets]:
    """`column`: integer targets [N, ...], None where a set has none, and then `remedy` says what to do."""

    def of_set(images: ImageSet, which: str) -> Targets:
        found = column(images)
        if found is None:
            raise DataError(
                f"the {which} images have no {remedy}, or bring weights of your own (model.weights_from file)"
            )
        require_one_shape(images, which)

        def rows(rows: Rows) -> Tensor:
            # copied: PyTorch warns of an array that it may not write to
            return torch.from_numpy(np.asarray(found[rows]).astype(np.int64))

        return rows

    return of_set


def _by_pixel(images: ImageSet) -> Optional[Column]:
    """None too where targets are boxes, which are fractions of pixels."""
    found = images.targets
    return None if found is None or np.issubdtype(found.dtype, np.floating) else found


def moved(planes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate, shift and zoom images float32 [n, C, H, W], each by its own draw, and along with them their targets by
    pixel, int64 [n, H, W]; those of the whole image stay.
    """
    count = len(planes)
    angle = (torch.rand(count) * 2 - 1) * ROTATION_RADIANS
    zoom = 1 + (torch.rand(count) * 2 - 1) * ZOOM
    shift = (torch.rand(count, 2) * 2 - 1) * SHIFT
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    transform = torch.stack(
        [torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)], 1
    )
    grid = functional.affine_grid(transform, list(planes.shape), align_corners=False)
    images = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    if targets.ndim == 1:
        return images, targets
    # between two classes there is nothing: the nearest
    nearest = functional.grid_sample(
        targets[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return images, nearest[:, 0].long()


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


CLASSIFICATION = Objective(
    "top1",
    "top-1",
    _targets(lambda images: images.labels, "labels: put them into a sub-folder for each class"),
    moved,
    _label_loss,
    _top1,
)
SEGMENTATION = Objective(
    "mean_iou",
    "mean IoU",
    _targets(_by_pixel, "targets by pixel: take a data.source that has them, such as digit_strokes"),
    moved,
    _pixel_loss,
    _mean_iou,
)
