"""The contract of a task: what its outputs and targets look like, what the answer for an image is worth, and how that
adds up.

All of it is functions of arrays and tables: `validate_accuracy` calls them on the whole set, and whoever searches for a
better engine on a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Protocol

import numpy as np
import numpy.typing as npt

from enginewright.config import Model
from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.data.geometry import Geometry
from enginewright.errors import ConfigError, ModelError, nearest
from enginewright.feeds import Array
from enginewright.interface import BATCH, Interface, TensorSpec
from enginewright.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

# what the gate holds where answers are classes and there are no targets: the share of FP32's that the engine gives too
AGREEMENT = "agreement"
AGREEMENT_TITLE = "agreement with fp32"
FP32 = "fp32"  # what the others are held against

# float [n, ...]: what the engine answered for n images;
# of `every_output` structured, [n], with a field for each output
Outputs = npt.NDArray[Any]
Targets = npt.NDArray[Any]  # [n, ...]: what it should have answered
Figures = Mapping[str, Any]  # metrics of one engine
Size = tuple[int, int]  # height and width of an input in pixels
Tables = dict[str, "pd.DataFrame"]  # file name -> table


@dataclass(frozen=True)
class Evaluation:
    """What one engine made of all images."""

    rows: pd.DataFrame  # of the task's `per_image`, in the order of the images
    classes: int
    outputs: Optional[Column] = None  # [images, ...] if they were asked for
    # of FP32, where the task judges `every_output`: whether all images have the same answer, to the last bit
    alike: bool = False


class Shown(NamedTuple):
    """A row of the terminal table."""

    key: str  # of the figures
    name: str
    form: str  # of `format`
    of_targets: bool = False  # it is absent where there are none


class Task(Protocol):
    """One module of this package, and its `TASK`."""

    metric: str  # what training reaches and the gate holds where there are targets, a fraction: a key of `summary`
    title: str  # the same for people
    name: str
    judges: str  # the shape of its outputs, in words
    shown: Sequence[Shown]
    # of a class: classes.csv has <class_metric>_<precision> and <class_metric>_delta_<precision>, or
    # agreement_<precision>
    class_metric: str
    without_targets: (
        str  # what the gate holds where there are none, a metric that FP32 has at 1: AGREEMENT, or the task's own
    )
    without_targets_title: str  # the same for people
    every_output: bool  # whether it compares all outputs about FP32's mean, and knows no targets

    @property
    def float_decoding(self) -> bool:
        """Whether what follows the last layers with weights stays out of INT8."""

    def configured(self, model: Model) -> Task:
        """This task with the settings of a model; itself if it has none."""

    def choose(self, interface: Interface, named: Optional[str]) -> tuple[str, ...]:
        """The names of the outputs that are judged, of a model's.

        Args:
            interface: of the model or engine.
            named: model.judged.

        Raises:
            ConfigError: they must be chosen, and are not, or not among the outputs.
        """

    def takes_for(self, judged: Interface) -> str:
        """What it takes the outputs for where their shapes alone say so, a sentence; nothing where that was stated."""

    def class_count(self, judged: Interface) -> Optional[int]:
        """How many classes the outputs that are judged tell apart; None where their shapes do not say."""

    def check(self, interface: Interface, of: str) -> None:
        """Refuse a model or engine, called `of`, whose outputs the task cannot judge; `export` asks first.

        Args:
            interface: with the outputs that are judged: all of them, or one.
            of: what to call it in the sentence.

        Raises:
            ModelError: naming the output, its shape, what the task judges, and what to do.
        """

    def decode(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], size: Optional[Size]) -> Outputs:
        """Make what is judged of the outputs for a batch.

        Args:
            outputs: those that are judged, [n, ...] each, as `choose` names them.
            geometry: of each image, to map what was found back to it; empty where the image set keeps none.
            size: of the input that the images were fed to; None where no input takes images.

        Returns:
            [n, ...]: what `score` takes, and what is kept of FP32.
        """

    def targets(self, images: ImageSet) -> Optional[Column]:
        """What the images should be answered with, [N, ...] in their order; None where that is unknown."""

    def check_batch(self, outputs: Outputs, targets: Optional[Targets], names: Sequence[str]) -> None:
        """Raises DataError naming the first image of the batch whose target cannot be an answer of this model,
        ModelError if nothing can.
        """

    def baseline(self, targets: Column) -> Optional[float]:
        """The task's metric of whoever always gives the commonest answer: what a model that knows anything exceeds."""

    def answers_alike(self, fp32: Evaluation) -> bool:
        """Whether FP32 gives all images the same answer, of which any engine could keep all and have kept nothing."""

    def score(
        self, outputs: Outputs, targets: Optional[Targets], reference: Optional[Outputs], mean: Optional[Outputs] = None
    ) -> pd.DataFrame:
        """Judge a batch of finite outputs against the targets and FP32's outputs, as far as there are any: a row an
        image.

        `mean` is FP32's over all images, [1, ...], where the task judges `every_output`.
        """

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        """Reduce rows of `per_image`, of any choice of images, to metrics; what the rows lack is absent. With a
        reference there is `agreement`.
        """

    def compare(self, rows: pd.DataFrame, fp32: pd.DataFrame, confidence: float) -> dict[str, Any]:
        """Paired comparison of an engine with FP32 on the same images.

        With a reference <without_targets>_low and _high; with targets <metric>_difference, its interval _low and _high,
        and what else the task counts.
        """

    def estimate(self, rows: pd.DataFrame, fp32: pd.DataFrame, ratio: float) -> Estimate:
        """What the gate judges: the engine's metric minus `ratio` times FP32's on the same images, paired; both rows
        may be FP32's.

        The metric is `figure` if FP32's rows have it, else `without_targets`, which FP32 has at 1.
        """

    def noise(self, rows: pd.DataFrame) -> Optional[Estimate]:
        """The SQNR in dB of rows with a reference; None where nothing differs from FP32."""

    def noise_of(self, figures: Figures) -> float:
        """How far metrics of `summary` say that an engine is from FP32, 0 where it is not at all.

        It ranks layers, and holds a mixture against another: every image adds to it, so it is finer than the task's
        metric.
        """

    def tables(self, images: ImageSet, rows: Mapping[str, pd.DataFrame], classes: int) -> Tables:
        """Tables of all precisions, `fp32` first: classes.csv, recall.csv, changed.csv, confusion_<precision>.csv and
        predictions.csv.
        """


def require_outputs(task: Task, interface: Interface, of: str, rank: int = 0) -> None:
    """Raise ModelError unless each output has a batch and, with a `rank`, so many axes, of which the second is classes.

    The largest of one class is always the same one, and would always agree: there must be two.
    """
    for spec in interface.outputs:
        shape = spec.shape
        classes = len(shape) == rank and (isinstance(shape[1], str) or shape[1] > 1) if rank else True
        if not (shape and classes):
            axes = ["N" if axis == BATCH else str(axis) for axis in shape]
            raise ModelError(
                f"the output '{spec.name}' of {of} is [{', '.join(axes)}], and model.task {task.name} judges"
                f" {task.judges}; set model.task to what the model does (outputs, where it answers neither classes nor"
                " pixels), or model.judged to the right output"
            )


def one_output(task: Task, interface: Interface, named: Optional[str]) -> tuple[str, ...]:
    """`Task.choose` of a task that judges one output."""
    names = [spec.name for spec in interface.outputs]
    if named is None and len(names) != 1:
        raise ConfigError(
            f"model.judged: the task {task.name} judges one output, and the model has {len(names)}; set it to one of"
            f" {', '.join(names)}, or set model.task=outputs, which judges them all"
        )
    if named is not None:
        require_output(names, named)
    return (names[0] if named is None else named,)


def require_output(names: Sequence[str], named: str) -> None:
    """Raise ConfigError unless the outputs have this one."""
    if named not in names:
        raise ConfigError(f"model.judged: the model has no output '{named}'{nearest(named, names)}")


def axis_size(judged: Interface, axis: int) -> Optional[int]:
    """The size of an axis of the one output that is judged; None where it is not fixed."""
    size = judged.outputs[0].shape[axis]
    return size if isinstance(size, int) else None


def interface_of(outputs: Mapping[str, Array]) -> Interface:
    """Describe the outputs for a batch, [n, ...] each; the first axis is the batch."""
    specs = [
        TensorSpec(name, array.dtype, (BATCH, *array.shape[1:]) if array.shape else ())
        for name, array in outputs.items()
    ]
    return Interface((), tuple(specs))


def together(outputs: Mapping[str, Array]) -> Outputs:
    """Outputs [n, ...] of the same images as one structured array, [n], with a float32 field for each."""
    first = next(iter(outputs.values()))
    found = np.empty(len(first), [(name, np.float32, output.shape[1:]) for name, output in outputs.items()])
    for name, output in outputs.items():
        found[name] = output
    return found


def mean_of(outputs: Outputs) -> Outputs:
    """The mean over the images of every field of a structured array, as one of a single image, in float64."""
    fields = outputs.dtype.names or ()
    found = np.empty(1, [(name, np.float64, outputs.dtype[name].shape) for name in fields])
    for name in fields:
        found[name] = outputs[name].mean(axis=0, dtype=np.float64)
    return found
