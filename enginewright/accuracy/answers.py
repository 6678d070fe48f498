"""What one engine has answered so far: a few numbers for each image, and none of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Precision
from enginewright.data.columns import Column
from enginewright.tasks.base import Evaluation, Outputs, Task

if TYPE_CHECKING:
    import pandas as pd


class Columns:
    """A table with a row an image that is filled piece by piece: an array for each column, as narrow as it can be."""

    def __init__(self, images: int) -> None:
        """The columns are those of the first piece."""
        self._images = images
        self._columns: dict[str, npt.NDArray[Any]] = {}

    def put(self, start: int, rows: pd.DataFrame) -> None:
        """Take the rows of the images from `start` on."""
        for name in rows:
            values = rows[name].to_numpy()
            if name not in self._columns:  # classes and pixels are counted in 31 bits
                dtype = np.dtype(np.int32) if values.dtype == np.int64 else values.dtype
                self._columns[str(name)] = np.empty(self._images, dtype)
            self._columns[str(name)][start : start + len(values)] = values

    def table(self) -> pd.DataFrame:
        """The whole table, which shares the arrays."""
        import pandas as pd

        return pd.DataFrame(self._columns, copy=False)


class Answers:
    """The answers of one engine to the images of a set, judged in their order."""

    def __init__(self, task: Task, names: Sequence[str], targets: Optional[Column], precision: Precision) -> None:
        """`names` and `targets` are those of all images, `precision` is that of the engine."""
        self._task, self._names, self._targets, self._precision = task, names, targets, precision
        self._rows, self._next, self._classes = Columns(len(names)), 0, 0
        self._broken: list[str] = []
        self._infinite = False
        self._first: Optional[Outputs] = None
        self._alike = True

    def add(self, outputs: Outputs, reference: Optional[Outputs] = None, mean: Optional[Outputs] = None) -> None:
        """Judge the next images.

        Args:
            outputs: [n, ...] of this engine.
            reference: FP32's for the same images; None for FP32 itself.
            mean: FP32's over all images, where the task asks for it.

        Raises:
            ModelError, DataError: see `Task.check_batch`.
        """
        piece = slice(self._next, self._next + len(outputs))
        self._next = piece.stop
        self._broken += [self._names[piece.start + int(index)] for index in np.flatnonzero(~_finite(outputs))]
        self._infinite = self._infinite or _infinite(outputs)
        if self._broken:
            return  # count them all, judge none
        targets = None if self._targets is None else np.asarray(self._targets[piece])
        if targets is not None or reference is None:
            self._task.check_batch(outputs, targets, self._names[piece])
        self._rows.put(piece.start, self._task.score(outputs, targets, reference, mean))
        self._classes = outputs.shape[1] if outputs.ndim > 1 else 0
        if reference is None and self._task.every_output:
            self._compare_with_the_first(outputs)

    def fault(self) -> Optional[str]:
        """Why these answers cannot be judged, a sentence; None if they can."""
        if not self._broken:
            return None
        return _not_numbers(self._precision, self._broken, len(self._names), self._infinite)

    def evaluation(self, outputs: Optional[Column] = None) -> Evaluation:
        """What the engine made of all images; `outputs` are kept with it."""
        return Evaluation(self._rows.table(), self._classes, outputs, self._alike)

    def _compare_with_the_first(self, outputs: Outputs) -> None:
        first = self._first = outputs[:1].copy() if self._first is None else self._first
        self._alike = self._alike and all(
            bool((outputs[name] == first[name]).all()) for name in outputs.dtype.names or ()
        )


def _finite(outputs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether each image's outputs are numbers, [n]."""
    fields = [outputs] if outputs.dtype.names is None else [outputs[name] for name in outputs.dtype.names]
    found: npt.NDArray[np.bool_] = np.logical_and.reduce(
        [np.isfinite(field).reshape(len(field), -1).all(axis=1) for field in fields]
    )
    return found


def _infinite(outputs: Outputs) -> bool:
    """Whether there is infinity among the outputs."""
    fields = [outputs] if outputs.dtype.names is None else [outputs[name] for name in outputs.dtype.names]
    return any(bool(np.isinf(field).any()) for field in fields)


def _not_numbers(precision: Precision, names: Sequence[str], images: int, infinite: bool) -> str:
    """The sentence; infinity in FP16 is an overflow, while NaN alone may have been made by a divisor that became 0 as
    well.
    """
    overflow = "values beyond 65504 overflow FP16"
    vanished = "either values beyond 65504 overflow FP16, or a divisor or epsilon under 6e-08 becomes 0 in it (0 / 0)"
    remedy = {
        Precision.fp32: "check the weights and data.preprocessing",
        Precision.fp16: (
            f"{overflow if infinite else vanished}: keep the layers that make them in FP32, or leave fp16 out"
        ),
    }.get(precision, "check the scales in calib.cache with `enginewright inspect`")
    return (
        f"the {precision.value} engine answers NaN or infinity for {len(names)} of {images} images, first {names[0]};"
        f" {remedy}"
    )
