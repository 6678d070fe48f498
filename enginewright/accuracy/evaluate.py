"""Runs an engine over the validation images, batch by batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.accuracy.tasks.base import AccuracyTask, Outputs
from enginewright.config import Precision, Preprocessing
from enginewright.data import ImageSet
from enginewright.errors import DataError, ModelError
from enginewright.runtimes.base import Engine, as_input

if TYPE_CHECKING:
    import pandas as pd


IN_MEMORY = 256 * 2**20  # bytes of FP32's outputs; answers by pixel may be larger than the machine's memory


@dataclass(frozen=True)
class Evaluation:
    """What one engine made of all images."""

    rows: pd.DataFrame  # of the task's `per_image`, in the order of the images
    classes: int
    outputs: Optional[npt.NDArray[np.float32]]  # [images, ...] if they were asked for


class Evaluator:
    """Validation images with what it takes to feed them, and the task that judges the answers."""

    def __init__(self, task: AccuracyTask, images: ImageSet, preprocessing: Preprocessing, batch_size: int, shows_progress: bool = True) -> None:
        """Raises DataError if there is no image."""
        if len(images) == 0:
            raise DataError("there is no image to measure accuracy on; raise data.validation_images and data.sensitivity_images, or check data.root")
        self.task, self.images, self.targets, self.batch_size = task, images, task.targets(images), batch_size
        self.preprocessing, self._shows_progress = preprocessing, shows_progress

    def evaluate(self, engine: Engine, precision: Precision, output_name: str, reference: Optional[npt.NDArray[np.float32]] = None) -> Evaluation:
        """Feed every image once.

        Args:
            engine: with one input.
            precision: for error messages and the progress bar.
            output_name: the output that the task judges, [n, ...] as it expects.
            reference: [images, ...] outputs of FP32; without it the outputs of this engine are kept to serve as such.

        Raises:
            ModelError: an output is NaN or infinite, or is not what the task expects.
            DataError: a target lies beyond the model's classes.
        """
        import pandas as pd

        rows, broken = [], []
        kept: Optional[npt.NDArray[np.float32]] = None
        start = 0
        for outputs in self._outputs(engine, precision, output_name):
            piece = slice(start, start + len(outputs))
            start = piece.stop
            finite = np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
            broken += [self.images.names[piece.start + index] for index in np.flatnonzero(~finite)]
            if broken:
                continue  # count them all, judge none
            targets = None if self.targets is None else np.asarray(self.targets[piece])
            if targets is not None:
                self.task.check(outputs, targets, self.images.names[piece])
            rows.append(self.task.per_image(outputs, targets, None if reference is None else reference[piece]))
            if reference is None:
                kept = _room((len(self.images), *outputs.shape[1:])) if kept is None else kept
                kept[piece] = outputs
        if broken:
            raise ModelError(_broken(precision, broken, len(self.images)))
        return Evaluation(pd.concat(rows, ignore_index=True), outputs.shape[1], kept)

    def _outputs(self, engine: Engine, precision: Precision, output_name: str) -> Iterator[Outputs]:
        from rich.console import Console
        from rich.progress import track

        (spec,) = engine.inputs
        batches = self.images.batches(self.preprocessing, self.batch_size)
        total = -(-len(self.images) // self.batch_size)
        for batch in track(batches, f"{precision.value:>4}: {len(self.images)} images", total, console=Console(stderr=True), disable=not self._shows_progress):
            outputs: npt.NDArray[Any] = engine.infer({spec.name: as_input(batch, spec)})[output_name]
            if not self.task.accepts(outputs.shape) or len(outputs) != len(batch):
                raise ModelError(
                    f"the output '{output_name}' of the {precision.value} engine has shape {list(outputs.shape)} for {len(batch)} images, "
                    f"and {self.task.title} is measured on {self.task.expects}; set model.task to what the model does, or model.output_name to the right output"
                )
            yield outputs


def _room(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """A float32 array; beyond IN_MEMORY in a file without a name, which is gone with the process. Raises DataError if the disk is full."""
    size = 4 * int(np.prod(shape, dtype=np.int64))
    if size <= IN_MEMORY:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile() as stream:
            os.posix_fallocate(stream.fileno(), 0, size)  # else a full disk is a SIGBUS in the middle
            return np.memmap(stream, np.float32, "r+", shape=shape)
    except OSError as fault:
        raise DataError(
            f"FP32's outputs for {shape[0]} images take {size / 2**30:.1f} GiB, and {tempfile.gettempdir()} has no room ({fault.strerror}); "
            "set TMPDIR to a folder that has, or lower data.validation_images"
        ) from None


def _broken(precision: Precision, names: list[str], images: int) -> str:
    remedy = {
        Precision.fp32: "check the weights and data.preprocessing",
        Precision.fp16: "values beyond 65504 overflow FP16: keep the layers that make them in FP32, or leave fp16 out",
    }.get(precision, "check the scales in calib.cache with `enginewright inspect`")
    return f"the {precision.value} engine answers NaN or infinity for {len(names)} of {images} images, first {names[0]}; {remedy}"
