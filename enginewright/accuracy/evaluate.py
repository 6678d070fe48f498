"""Runs an engine over the validation images, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.accuracy.metrics import Labels, Outputs, per_image
from enginewright.config import Precision, Preprocessing
from enginewright.data import ImageSet
from enginewright.errors import DataError, ModelError
from enginewright.runtimes.base import Engine, as_input

if TYPE_CHECKING:
    import pandas as pd

OUTPUT_AXES = 2  # [n, classes]


@dataclass(frozen=True)
class Evaluation:
    """What one engine made of all images."""

    rows: pd.DataFrame  # of `metrics.per_image`, in the order of the images
    classes: int
    outputs: Optional[npt.NDArray[np.float32]]  # [images, classes] if they were asked for


class Evaluator:
    """Validation images with what it takes to feed them."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, batch_size: int, shows_progress: bool = True) -> None:
        """Raises DataError if there is no image."""
        if len(images) == 0:
            raise DataError("there is no image to measure accuracy on; raise data.validation_images and data.sensitivity_images, or check data.root")
        self.images, self.batch_size, self._preprocessing, self._shows_progress = images, batch_size, preprocessing, shows_progress

    def evaluate(self, engine: Engine, precision: Precision, output_name: str, reference: Optional[npt.NDArray[np.float32]] = None) -> Evaluation:
        """Feed every image once.

        Args:
            engine: with one input.
            precision: for error messages and the progress bar.
            output_name: the output that holds the logits, [n, classes].
            reference: [images, classes] outputs of FP32; without it the outputs of this engine are kept to serve as such.

        Raises:
            ModelError: an output is NaN or infinite, or is not [n, classes].
            DataError: a label lies beyond the model's classes.
        """
        import pandas as pd

        rows, kept, broken = [], [], []
        start = 0
        for outputs in self._outputs(engine, precision, output_name):
            piece = slice(start, start + len(outputs))
            start = piece.stop
            finite = np.isfinite(outputs).all(axis=1)
            broken += [self.images.names[piece.start + index] for index in np.flatnonzero(~finite)]
            if broken:
                continue  # count them all, judge none
            rows.append(per_image(outputs, self._labels(piece, outputs), None if reference is None else reference[piece]))
            if reference is None:
                kept.append(outputs.astype(np.float32))
        if broken:
            raise ModelError(_broken(precision, broken, len(self.images)))
        return Evaluation(pd.concat(rows, ignore_index=True), outputs.shape[1], np.concatenate(kept) if kept else None)

    def _outputs(self, engine: Engine, precision: Precision, output_name: str) -> Iterator[Outputs]:
        from rich.console import Console
        from rich.progress import track

        (spec,) = engine.inputs
        batches = self.images.batches(self._preprocessing, self.batch_size)
        total = -(-len(self.images) // self.batch_size)
        for batch in track(batches, f"{precision.value:>4}: {len(self.images)} images", total, console=Console(stderr=True), disable=not self._shows_progress):
            outputs: npt.NDArray[Any] = engine.infer({spec.name: as_input(batch, spec)})[output_name]
            if outputs.ndim != OUTPUT_AXES or len(outputs) != len(batch):
                raise ModelError(
                    f"the output '{output_name}' of the {precision.value} engine has shape {list(outputs.shape)} for {len(batch)} images; "
                    "accuracy is measured on [N, classes]"
                )
            yield outputs

    def _labels(self, piece: slice, outputs: Outputs) -> Optional[Labels]:
        if self.images.labels is None:
            return None
        labels = self.images.labels[piece]
        beyond = (labels < 0) | (labels >= outputs.shape[1])
        if beyond.any():
            index = int(np.flatnonzero(beyond)[0])
            raise DataError(
                f"{self.images.names[piece.start + index]} has the label {labels[index]}, and the model knows {outputs.shape[1]} classes; "
                "labels must be the indices of its outputs"
            )
        return labels


def _broken(precision: Precision, names: list[str], images: int) -> str:
    remedy = {
        Precision.fp32: "check the weights and data.preprocessing",
        Precision.fp16: "values beyond 65504 overflow FP16: keep the layers that make them in FP32, or leave fp16 out",
        Precision.int8_mixed: "check the scales in calib.cache with `enginewright inspect`",
        Precision.int8: "check the scales in calib.cache with `enginewright inspect`",
    }[precision]
    return f"the {precision.value} engine answers NaN or infinity for {len(names)} of {images} images, first {names[0]}; {remedy}"
