"""One class an image: top-1 against the labels, agreement with FP32 where there are none.

The answer is the largest of an image's outputs. One output has no largest, so a regression is refused here; an
embedding cannot be told from scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from enginewright import statistics
from enginewright.config import Model
from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.data.geometry import Geometry
from enginewright.errors import DataError, ModelError
from enginewright.feeds import Array
from enginewright.interface import Interface
from enginewright.statistics import Estimate, PairedCounts, proportion
from enginewright.tasks import metrics, tables
from enginewright.tasks.base import (
    AGREEMENT,
    AGREEMENT_TITLE,
    FP32,
    Evaluation,
    Figures,
    Outputs,
    Shown,
    Size,
    Tables,
    Targets,
    Task,
    axis_size,
    one_output,
    require_outputs,
)
from enginewright.tasks.metrics import noise_power

if TYPE_CHECKING:
    import pandas as pd

UNIT = 1e-3  # how far from 1 the length of a vector may be that FP16 or FP32 has made 1 long


class Classification:
    """Outputs are logits [n, classes], targets int64 [n], indices of outputs."""

    metric = "top1"
    title = "top-1"
    name = "classification"
    judges = "[N, classes], two classes at least"
    class_metric = "recall"
    without_targets = AGREEMENT
    without_targets_title = AGREEMENT_TITLE
    float_decoding = False
    every_output = False
    shown: Sequence[Shown] = (
        Shown("top1", "top-1", ".4f", of_targets=True),
        Shown("top5", "top-5", ".4f", of_targets=True),
        Shown("cross_entropy_loss", "cross-entropy loss", ".4f", of_targets=True),
        Shown("agreement", "agreement with fp32", ".4f"),
        Shown("sqnr_db", "SQNR (dB)", ".1f"),
        Shown("cosine", "cosine", ".6f"),
        Shown("kl_divergence_mean", "KL divergence", ".2e"),
    )

    def configured(self, model: Model) -> Task:
        """It has no settings."""
        del model
        return self

    def choose(self, interface: Interface, named: Optional[str]) -> tuple[str, ...]:
        """See `base.one_output`."""
        return one_output(self, interface, named)

    def takes_for(self, judged: Interface) -> str:
        """There is one way to read them."""
        del judged
        return ""

    def class_count(self, judged: Interface) -> Optional[int]:
        """The size of the second axis."""
        return axis_size(judged, 1)

    def check(self, interface: Interface, of: str) -> None:
        """See `base.require_outputs`."""
        require_outputs(self, interface, of, rank=2)

    def decode(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], size: Optional[Size]) -> Outputs:
        """The one output, float32."""
        del geometry, size
        (output,) = outputs.values()
        return np.asarray(output, np.float32)

    def targets(self, images: ImageSet) -> Optional[Column]:
        """The labels."""
        return images.labels

    def check_batch(self, outputs: Outputs, targets: Optional[Targets], names: Sequence[str]) -> None:
        """A label is the index of an output, and outputs of length 1 that are partly negative are an embedding."""
        if (outputs < 0).any() and np.allclose(
            np.linalg.norm(np.asarray(outputs, np.float64), axis=1), 1, rtol=0, atol=UNIT
        ):
            raise ModelError(
                f"the outputs of {names[0]} and others are vectors of length 1, as embeddings are, and model.task"
                " classification takes the largest of them for the answer; set model.task=outputs, which compares"
                " vectors"
            )
        if targets is None:
            return
        beyond = np.flatnonzero((targets < 0) | (targets >= outputs.shape[1]))
        if len(beyond):
            index = int(beyond[0])
            raise DataError(
                f"{names[index]} has the label {targets[index]}, and the model knows {outputs.shape[1]} classes; labels"
                " must be the indices of its outputs"
            )

    def baseline(self, targets: Column) -> Optional[float]:
        """The share of the most frequent label."""
        return float(np.bincount(np.asarray(targets)).max() / len(targets))

    def answers_alike(self, fp32: Evaluation) -> bool:
        """Whether one class is the answer to all images."""
        return int(fp32.rows["prediction"].nunique()) == 1

    def score(
        self, outputs: Outputs, targets: Optional[Targets], reference: Optional[Outputs], mean: Optional[Outputs] = None
    ) -> pd.DataFrame:
        """See `metrics.per_image`."""
        del mean
        return metrics.per_image(outputs, targets, reference)

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        """See `metrics.summary`."""
        return metrics.summary(rows, classes)

    def compare(self, rows: pd.DataFrame, fp32: pd.DataFrame, confidence: float) -> dict[str, Any]:
        """See `statistics.compare`; the interval of the agreement."""
        found = (
            statistics.compare(rows["correct"].to_numpy(), fp32["correct"].to_numpy(), confidence)
            if "correct" in rows
            else {}
        )
        if "agrees" in rows:
            found["agreement_low"], found["agreement_high"] = proportion(int(rows["agrees"].sum()), len(rows)).interval(
                confidence
            )
        return found

    def estimate(self, rows: pd.DataFrame, fp32: pd.DataFrame, ratio: float) -> Estimate:
        """Of the paired 2 x 2 table of who was right, or of the share of answers that are FP32's."""
        if "correct" in fp32:
            return PairedCounts.of(rows["correct"].to_numpy(), fp32["correct"].to_numpy()).difference(ratio)
        return proportion(int(rows["agrees"].sum()) if "agrees" in rows else len(rows), len(rows), minus=ratio)

    def noise(self, rows: pd.DataFrame) -> Optional[Estimate]:
        """See `metrics.noise_estimate`."""
        return metrics.noise_estimate(rows["signal"].to_numpy(), rows["noise"].to_numpy())

    def noise_of(self, figures: Figures) -> float:
        """See `metrics.noise_power`."""
        return noise_power(figures)

    def tables(self, images: ImageSet, rows: Mapping[str, pd.DataFrame], classes: int) -> Tables:
        """Recall of each class, images answered otherwise than by FP32, label and answer of each image."""
        names = tables.class_names(images, classes)
        by_class, predictions = tables.class_table(images, rows, names), tables.prediction_table(images, rows, names)
        return {
            "classes.csv": by_class,
            "recall.csv": tables.recall_series(by_class),
            "changed.csv": tables.changed_table(predictions),
            **{
                f"confusion_{precision}.csv": tables.confusion_table(images, frame, names, rows[FP32])
                for precision, frame in rows.items()
            },
            "predictions.csv": predictions,
        }


TASK = Classification()
