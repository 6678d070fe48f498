"""Engines that answer images @ weights, and an evaluator of a few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.accuracy.evaluate import Evaluator
from enginewright.config import Precision, Preprocessing
from enginewright.data import ImageSet
from enginewright.feeds import Feeds
from enginewright.interface import AxisRange, Interface, TensorSpec
from enginewright.runtimes.base import Outputs
from enginewright.runtimes.host import HostEngine
from enginewright.tasks import get_task

FP32, FP16, INT8 = Precision.fp32, Precision.fp16, Precision.int8
IMAGES, CLASSES = 23, 7
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(16, CLASSES)).astype(np.float32)
Array = npt.NDArray[Any]


class Engine(HostEngine):
    """Answers images @ weights, for each pixel if it is asked to, and remembers its batches."""

    def __init__(self, weights: Array, by_pixel: bool = False, least: int = 1) -> None:
        inputs = (TensorSpec("input", np.dtype(np.float32), ("batch", 1, 4, 4)),)
        shape = (weights.shape[1], 2, 2) if by_pixel else (weights.shape[1],)
        outputs = (TensorSpec("logits", np.dtype(np.float32), ("batch", *shape)),)
        super().__init__(Path("engine"), Interface(inputs, outputs), {"batch": AxisRange(least, 64, 128)})
        self._weights, self._by_pixel = weights, by_pixel
        self.batches: list[int] = []

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        image = feeds["input"].reshape(rows, -1)
        self.batches.append(rows)
        if self._by_pixel:  # four views of the image, an answer for each
            views = [np.roll(image, shift, axis=1) @ self._weights for shift in range(4)]
            return {"logits": np.stack(views, axis=2).reshape(rows, -1, 2, 2)}
        return {"logits": image @ self._weights}


def images(labelled: bool = True, count: int = IMAGES) -> ImageSet:
    pixels = RANDOM.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    labels = RANDOM.integers(0, CLASSES, count) if labelled else None
    return ImageSet({"images": pixels}, labels, tuple("abcdefg"), tuple(f"{index}.png" for index in range(count)), [])


def evaluator(task: str, found: Optional[ImageSet] = None, batch_size: int = 5) -> Evaluator:
    return Evaluator(
        get_task(task), images() if found is None else found, Preprocessing(), batch_size, shows_progress=False
    )


def engines(by_pixel: bool = False, least: int = 1) -> dict[Precision, Any]:
    return {
        precision: Engine(
            WEIGHTS + np.float32(noise) * RANDOM.normal(size=WEIGHTS.shape).astype(np.float32), by_pixel, least
        )
        for precision, noise in ((FP32, 0.0), (FP16, 1e-3), (INT8, 0.3))
    }
