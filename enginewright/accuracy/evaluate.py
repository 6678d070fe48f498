"""Runs an engine over the validation images, batch by batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Precision, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.errors import DataError, ModelError
from enginewright.runtimes.base import Engine
from enginewright.tasks.base import Evaluation, Outputs, Task, interface_of, mean_of

IN_MEMORY = 256 * 2**20  # bytes of FP32's outputs; answers by pixel may be larger than the machine's memory


class Evaluator:
    """Validation images with what it takes to feed them, and the task that judges the answers."""

    def __init__(
        self,
        task: Task,
        images: ImageSet,
        preprocessing: Preprocessing,
        batch_size: int,
        shows_progress: bool = True,
    ) -> None:
        """Raises DataError if there is no image."""
        if len(images) == 0:
            raise DataError(
                "there is no image to measure accuracy on; raise data.validation_images and data.sensitivity_images, or"
                " check data.root"
            )
        self.task, self.images, self.targets, self.batch_size = task, images, task.targets(images), batch_size
        self.feeding, self._shows_progress = Feeding(images, preprocessing), shows_progress

    def evaluate(
        self, engine: Engine, precision: Precision, output_name: str, reference: Optional[Outputs] = None
    ) -> Evaluation:
        """Feed every image once.

        Args:
            engine: with one input.
            precision: for error messages and the progress bar.
            output_name: the output that the task judges, [n, ...] as it expects; a task of `every_output` judges all
                that there are.
            reference: [images, ...] outputs of FP32; without it the outputs of this engine are kept to serve as such.

        Raises:
            ModelError: an output is NaN or infinite, or is not what the task expects.
            DataError: a target lies beyond the model's classes.
        """
        import pandas as pd

        rows, broken = [], []
        infinite = False
        kept: Optional[Outputs] = None
        mean = mean_of(reference) if self.task.every_output and reference is not None else None
        start = 0
        for outputs in self._outputs(engine, precision, output_name):
            piece = slice(start, start + len(outputs))
            start = piece.stop
            finite = _finite(outputs)
            broken += [self.images.names[piece.start + index] for index in np.flatnonzero(~finite)]
            infinite = infinite or _infinite(outputs)
            if broken:
                continue  # count them all, judge none
            targets = None if self.targets is None else np.asarray(self.targets[piece])
            if targets is not None or reference is None:
                self.task.check_batch(outputs, targets, self.images.names[piece])
            rows.append(self.task.score(outputs, targets, None if reference is None else reference[piece], mean))
            if reference is None:
                kept = _room((len(self.images), *outputs.shape[1:]), outputs.dtype) if kept is None else kept
                kept[piece] = outputs
        if broken:
            raise ModelError(_broken(precision, broken, len(self.images), infinite))
        return Evaluation(pd.concat(rows, ignore_index=True), outputs.shape[1] if outputs.ndim > 1 else 0, kept)

    def equal(self, reference: Outputs) -> Evaluation:
        """What an engine would make of the images that answers as FP32 does, whose outputs these are."""
        import pandas as pd

        mean = mean_of(reference) if self.task.every_output else None
        rows = []
        for start in range(0, len(reference), self.batch_size):
            piece = slice(start, start + self.batch_size)
            targets = None if self.targets is None else np.asarray(self.targets[piece])
            rows.append(self.task.score(reference[piece], targets, reference[piece], mean))
        return Evaluation(pd.concat(rows, ignore_index=True), reference.shape[1] if reference.ndim > 1 else 0)

    def _outputs(self, engine: Engine, precision: Precision, output_name: str) -> Iterator[Outputs]:
        from rich.console import Console
        from rich.progress import track

        batches = self.feeding.batches(engine.interface.inputs, self.batch_size)
        total = -(-len(self.images) // self.batch_size)
        for feeds in track(
            batches,
            f"{precision.value:>4}: {len(self.images)} images",
            total,
            console=Console(stderr=True),
            disable=not self._shows_progress,
        ):
            answered, fed = engine.infer(feeds), len(next(iter(feeds.values())))
            judged = answered if self.task.every_output else {output_name: answered[output_name]}
            self.task.check(interface_of(judged), f"the {precision.value} engine")
            for name, output in judged.items():
                if len(output) != fed:
                    raise ModelError(
                        f"the output '{name}' of the {precision.value} engine has shape {list(output.shape)} for {fed}"
                        " images; the first axis of an output must be the batch"
                    )
            yield self.task.decode(judged, ())


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


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array; beyond IN_MEMORY in a file without a name, which is gone with the process. Raises DataError if the disk
    is full.
    """
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile() as stream:
            os.posix_fallocate(stream.fileno(), 0, size)  # else a full disk is a SIGBUS in the middle
            return np.memmap(stream, dtype, "r+", shape=shape)
    except OSError as fault:
        raise DataError(
            f"FP32's outputs for {shape[0]} images take {size / 2**30:.1f} GiB, and {tempfile.gettempdir()} has no room"
            f" ({fault.strerror}); set TMPDIR to a folder that has, or lower data.validation_images"
        ) from None


def _broken(precision: Precision, names: list[str], images: int, infinite: bool) -> str:
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
