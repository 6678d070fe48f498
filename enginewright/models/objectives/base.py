"""What an objective is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from torch import Tensor

from enginewright.data import ImageSet
from enginewright.errors import DataError

Rows = npt.NDArray[np.int64]
Targets = Callable[[Rows], Tensor]  # some rows of a set -> what is wanted of them, [rows, ...]
Answers = Iterable[tuple[Tensor, Tensor]]  # what a network in eval mode returns for a batch, and its targets


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on a whole set."""

    metric: float  # the objective's: a fraction
    loss: Optional[float] = None  # mean cross-entropy, nats; None where the task's loss is no such mean


@dataclass(frozen=True)
class Objective:
    """How a model is trained for a task, and how it did."""

    metric: str  # in the metrics, as in those of validate_accuracy
    title: str
    targets: Callable[[ImageSet, str], Targets]  # of a set, called so in messages; raises DataError if it has none
    # batches of images float32 [n, C, H, W] and their targets, each changed by draws from PyTorch's generator
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    loss: Callable[[Any, Tensor], Tensor]  # of what a network in training mode returns for a batch, and its targets
    evaluate: Callable[[Answers], Evaluation]


def require_one_shape(images: ImageSet, which: str) -> None:
    """Raise DataError if the images of a set, called `which`, cannot be put into batches."""
    if images.varies:
        raise DataError(
            f"the {which} images differ in shape, and train_reference takes batches of one; cut them to one, or"
            " bring weights of your own (model.weights_from file)"
        )
