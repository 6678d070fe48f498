"""Runs engines over images, batch by batch, and judges their answers on the way: what is kept of an image is a row."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.accuracy.answers import Answers
from enginewright.config import Precision, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.data.columns import Column, Ragged
from enginewright.errors import DataError, ModelError
from enginewright.interface import BATCH
from enginewright.results.shape import SampleShape
from enginewright.runtimes.base import Engine
from enginewright.tasks.base import Evaluation, Outputs, Task, interface_of, mean_of

IN_MEMORY = 256 * 2**20  # bytes of outputs that are kept; answers by pixel may be larger than the machine's memory
AT_ONCE = 40 * 2**20  # bytes of an engine's outputs for one batch; where they are larger, the batch is smaller


@dataclass(frozen=True)
class Judged:
    """What several engines made of the same images."""

    evaluations: Mapping[Precision, Evaluation]  # FP32 first
    failed: Mapping[Precision, str] = field(default_factory=dict)  # whose answers cannot be judged, and why
    shape: Optional[SampleShape] = None  # of the images


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

    def side_by_side(self, engines: Mapping[Precision, Engine], outputs: Sequence[str]) -> Judged:
        """Feed every image to all engines, and hold each answer against FP32's to the same image.

        A task that judges about FP32's mean needs that first: FP32 then goes over the images twice.

        Args:
            engines: loaded, FP32 first.
            outputs: the names of those that the task judges (`Task.choose`), [n, ...] each.

        Raises:
            ModelError: FP32's outputs are NaN or infinite, or an engine's are not what the task expects.
            DataError: a target lies beyond the model's classes, or an image is out of the range of an axis.
        """
        fp32 = engines[Precision.fp32]
        self.feeding.require_within(fp32.interface, fp32.axes)
        names = ", ".join(precision.value for precision in engines)
        answers = {precision: self._answers(precision) for precision in engines}
        centred = self.task.every_output and len(engines) > 1
        mean = self._mean(fp32, outputs) if centred else None
        for piece in self._pieces(fp32, outputs, names):
            fed: dict[object, Mapping[str, npt.NDArray[Any]]] = {}  # engines of one input type share what they are fed
            reference: Optional[Outputs] = None
            for precision, engine in engines.items():
                inputs = tuple(engine.interface.inputs)
                if inputs not in fed:
                    fed[inputs] = self.feeding.rows(piece, inputs)
                found = self._infer(engine, fed[inputs], piece, precision, outputs)
                answers[precision].add(found, reference, mean)
                reference = found if reference is None else reference
                if answers[Precision.fp32].fault():
                    break  # nothing can be held against it; its faults are counted
        return _judged(answers, self.feeding.shape(fp32.interface.inputs))

    def evaluate(
        self, engine: Engine, precision: Precision, outputs: Sequence[str], reference: Optional[Column] = None
    ) -> Evaluation:
        """Feed every image to one engine, and hold its answers against outputs of FP32 that were kept.

        That is for who compares many engines with one FP32 on a few hundred images: what is kept grows with them.

        Args:
            engine: with one input.
            precision: for error messages and the progress bar.
            outputs: see `side_by_side`.
            reference: [images, ...] outputs of FP32; without it the outputs of this engine are kept to serve as such.

        Raises:
            ModelError: an output is NaN or infinite, or is not what the task expects.
            DataError: a target lies beyond the model's classes.
        """
        answers, mean = self._answers(precision), None
        if self.task.every_output and reference is not None:
            mean = mean_of(np.asarray(reference))
        with Kept(self.images) as kept:
            for piece in self._pieces(engine, outputs, precision.value):
                feeds = self.feeding.rows(piece, engine.interface.inputs)
                found = self._infer(engine, feeds, piece, precision, outputs)
                if reference is None:
                    kept.put(piece, found)
                answers.add(found, None if reference is None else reference[piece], mean)
            if fault := answers.fault():
                raise ModelError(fault)
            return answers.evaluation(kept.outputs() if reference is None else None)

    def equal(self, reference: Column) -> Evaluation:
        """What an engine would make of the images that answers as FP32 does, whose outputs these are."""
        answers = self._answers(Precision.fp32)
        mean = mean_of(np.asarray(reference)) if self.task.every_output else None
        for piece in self.feeding.pieces(self.batch_size):
            outputs = reference[piece]
            answers.add(outputs, outputs, mean)
        return answers.evaluation()

    def _answers(self, precision: Precision) -> Answers:
        return Answers(self.task, self.images.names, self.targets, precision)

    def _mean(self, fp32: Engine, outputs: Sequence[str]) -> Outputs:
        """FP32's mean over the images of every output, as a structured array of one image, in float64."""
        total: Optional[Outputs] = None
        for piece in self._pieces(fp32, outputs, "mean of fp32"):
            feeds = self.feeding.rows(piece, fp32.interface.inputs)
            found = self._infer(fp32, feeds, piece, Precision.fp32, outputs)
            fields = found.dtype.names or ()
            if total is None:
                total = np.zeros(1, [(name, np.float64, found.dtype[name].shape) for name in fields])
            _require_one_shape(found, total)
            for name in fields:
                total[name] += found[name].sum(axis=0, dtype=np.float64)
        assert total is not None  # there is an image
        for name in total.dtype.names or ():
            total[name] /= len(self.images)
        return total

    def _pieces(self, engine: Engine, outputs: Sequence[str], what: str) -> Iterator[slice]:
        """The images in stored order, as many of one shape at once as `batch_size` and the outputs' size allow."""
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), disable=not self._shows_progress) as progress:
            task = progress.add_task(f"{what:>4}: {len(self.images)} images", total=len(self.images))
            for piece in self.feeding.pieces(self._batch_size(engine, outputs), engine.interface.inputs):
                yield piece
                progress.update(task, advance=piece.stop - piece.start)
                self.images.forget()

    def _batch_size(self, engine: Engine, outputs: Sequence[str]) -> int:
        """Images at once: fewer than asked for where their outputs would take more than AT_ONCE as float32."""
        largest = {name: axis.max for name, axis in engine.axes.items()}
        one = sum(4 * math.prod(engine.interface.output(name).sizes(largest)[1:]) for name in outputs)
        least = engine.axes[BATCH].min if BATCH in engine.axes else 1
        return max(least, min(self.batch_size, AT_ONCE // max(one, 1)), 1)

    def _infer(
        self,
        engine: Engine,
        feeds: Mapping[str, npt.NDArray[Any]],
        piece: slice,
        precision: Precision,
        outputs: Sequence[str],
    ) -> Outputs:
        """The outputs that are judged. Raises ModelError if they are not what the task expects."""
        answered, fed = engine.infer(feeds), piece.stop - piece.start
        judged = {name: answered[name] for name in outputs}
        self.task.check(interface_of(judged), f"the {precision.value} engine")
        for name, output in judged.items():
            if len(output) != fed:
                raise ModelError(
                    f"the output '{name}' of the {precision.value} engine has shape {list(output.shape)} for {fed}"
                    " images; the first axis of an output must be the batch"
                )
        return self.task.decode(judged, self.images.geometries(piece), self.feeding.size(feeds))


def _judged(answers: Mapping[Precision, Answers], shape: Optional[SampleShape]) -> Judged:
    failed = {precision: fault for precision, found in answers.items() if (fault := found.fault())}
    if Precision.fp32 in failed:
        raise ModelError(failed[Precision.fp32])
    evaluations = {precision: found.evaluation() for precision, found in answers.items() if precision not in failed}
    return Judged(evaluations, failed, shape)


def _require_one_shape(outputs: Outputs, total: Outputs) -> None:
    """Raise DataError if the outputs of these images have other shapes than those before, about whose mean others are
    judged.
    """
    for name in total.dtype.names or ():
        one, other = total.dtype[name].shape, outputs.dtype[name].shape
        if one != other:
            raise DataError(
                f"the output '{name}' has the shape {list(one)} for some images and {list(other)} for others, and"
                " model.task outputs takes the mean over all images; bring samples of one shape, or choose the task"
                " that the model is for"
            )


class Kept:
    """Outputs of all images of a set; beyond IN_MEMORY in a file without a name, which is gone with the process."""

    def __init__(self, images: ImageSet) -> None:
        """Room for the outputs of so many."""
        self._count = len(images)
        self._array: Optional[Outputs] = None
        self._stream = tempfile.TemporaryFile() if images.varies else None  # noqa: SIM115  see __exit__
        self._shapes: list[tuple[int, ...]] = []
        self._dtype: Optional[np.dtype[Any]] = None

    def put(self, piece: slice, outputs: Outputs) -> None:
        """Keep the next images'. Raises DataError if the disk is full, or a task of all outputs finds other shapes."""
        if self._dtype is not None and self._dtype.names is not None:
            _require_one_shape(outputs, np.empty(1, self._dtype))
        self._dtype = outputs.dtype
        if self._stream is None:
            if self._array is None:
                self._array = _room((self._count, *outputs.shape[1:]), outputs.dtype)
            self._array[piece] = outputs
            return
        self._shapes += [outputs.shape[1:]] * len(outputs)
        try:
            self._stream.write(outputs.tobytes())
        except OSError as fault:
            raise _no_room(self._count, self._stream.tell(), fault) from None

    def outputs(self) -> Column:
        """All of them, [images, ...], or each of its own shape."""
        if self._stream is None:
            assert self._array is not None  # there is an image
            return self._array
        self._stream.flush()
        values: Outputs = np.memmap(self._stream, self._dtype or np.dtype(np.float32), "r")
        if len(set(self._shapes)) == 1:
            return values.reshape(self._count, *self._shapes[0])
        return Ragged(values, np.array(self._shapes, np.int64))

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        """What `outputs` has mapped stays."""
        if self._stream is not None:
            self._stream.close()


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
        raise _no_room(shape[0], size, fault) from None


def _no_room(images: int, size: int, fault: OSError) -> DataError:
    return DataError(
        f"FP32's outputs for {images} images take {size / 2**30:.1f} GiB, and {tempfile.gettempdir()} has no room"
        f" ({fault.strerror}); set TMPDIR to a folder that has, or lower data.sensitivity_images"
    )
