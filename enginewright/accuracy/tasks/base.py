"""The contract of a task: what its outputs and targets look like, what the answer for an image is worth, and how that adds up.

All of it is functions of arrays and tables: `validate_accuracy` calls them on the whole set, and whoever searches for a better engine on a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Protocol

import numpy.typing as npt

from enginewright.data import ImageSet

if TYPE_CHECKING:
    import pandas as pd

AGREEMENT = "agreement"  # the figure of every task that needs no targets: the share of FP32's answers that the engine gives too
FP32 = "fp32"  # what the others are held against

Outputs = npt.NDArray[Any]  # float [n, ...]: what the engine answered for n images
Targets = npt.NDArray[Any]  # [n, ...]: what it should have answered
Figures = Mapping[str, Any]  # metrics of one engine
Tables = dict[str, "pd.DataFrame"]  # file name -> table


class Shown(NamedTuple):
    """A row of the terminal table."""

    key: str  # of the figures
    name: str
    form: str  # of `format`
    of_targets: bool = False  # it is absent where there are none


class AccuracyTask(Protocol):
    """One module of this package, and its `TASK`."""

    figure: str  # what training reaches and the gate holds where there are targets, a fraction: a key of `summary`
    title: str  # the same for people
    expects: str  # the outputs, as in "[N, classes]"
    shown: Sequence[Shown]
    class_figure: str  # of a class: classes.csv has <class_figure>_<precision> and <class_figure>_delta_<precision>, or agreement_<precision>

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether outputs of this shape are what the task expects; the first axis is the batch, the second the classes."""

    def targets(self, images: ImageSet) -> Optional[Targets]:
        """What the images should be answered with, [N, ...] in their order; None where that is unknown."""

    def check(self, outputs: Outputs, targets: Targets, names: Sequence[str]) -> None:
        """Raises DataError naming the first image of the batch whose target cannot be an answer of this model."""

    def per_image(self, outputs: Outputs, targets: Optional[Targets], reference: Optional[Outputs]) -> pd.DataFrame:
        """Judge a batch of finite outputs against the targets and FP32's outputs, as far as there are any: a row an image."""

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        """Reduce rows of `per_image`, of any choice of images, to metrics; what the rows lack is absent. With a reference there is `agreement`."""

    def compare(self, rows: pd.DataFrame, fp32: pd.DataFrame, confidence: float) -> dict[str, Any]:
        """Paired comparison of an engine with FP32 on the same images.

        With a reference agreement_low and agreement_high; with targets <figure>_difference, its interval _low and _high, and what else the task counts.
        """

    def tables(self, images: ImageSet, rows: Mapping[str, pd.DataFrame], classes: int) -> Tables:
        """Tables of all precisions, `fp32` first: classes.csv, recall.csv, changed.csv, confusion_<precision>.csv and predictions.csv."""
