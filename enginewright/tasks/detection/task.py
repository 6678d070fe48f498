"""Boxes with a class and a score: COCO's mAP against the targets, or against FP32's detections where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Model
from enginewright.config.model import Detection as Settings
from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.data.geometry import Geometry
from enginewright.errors import ConfigError, DataError, ModelError
from enginewright.feeds import Array
from enginewright.interface import Interface, TensorSpec
from enginewright.statistics import Estimate, Resampled, resampled
from enginewright.tasks.base import (
    AGREEMENT,
    AGREEMENT_TITLE,
    Evaluation,
    Figures,
    Outputs,
    Shown,
    Size,
    Tables,
    Targets,
    interface_of,
    require_output,
)
from enginewright.tasks.detection import precision, tables
from enginewright.tasks.detection.boxes import CLASS, Detections, Limits, stacked, unstacked
from enginewright.tasks.detection.contracts import CONTRACTS, Contract, fitting
from enginewright.tasks.detection.likeness import likeness
from enginewright.tasks.detection.matching import SHOWN, shown
from enginewright.tasks.detection.precision import TRUTH_CLASS, TRUTH_COLUMNS, Truths

if TYPE_CHECKING:
    import pandas as pd

OF_FP32 = "map50_95_of_fp32"
PLANES = (1, 3, 4)  # channels of an image, by which the layout of an input is told


class Detection:
    """Outputs are detections, float32 [n, most, 6] as `boxes.stacked` has them, in pixels of the image; targets are
    `precision.Truths`, a list of any length an image.
    """

    metric = "map50_95"
    title = "mAP50-95"
    name = "detection"
    judges = "; ".join(f"{contract.name}: {contract.means}" for contract in CONTRACTS)
    class_metric = "ap"
    without_targets = OF_FP32
    without_targets_title = "mAP50-95 against fp32's detections"
    every_output = False
    shown: Sequence[Shown] = (
        Shown("map50_95", "mAP50-95", ".4f", of_targets=True),
        Shown("map50", "mAP50", ".4f", of_targets=True),
        Shown("map75", "mAP75", ".4f", of_targets=True),
        Shown("map50_95_small", "mAP50-95, small objects", ".4f", of_targets=True),
        Shown("map50_95_medium", "mAP50-95, medium objects", ".4f", of_targets=True),
        Shown("map50_95_large", "mAP50-95, large objects", ".4f", of_targets=True),
        Shown(OF_FP32, without_targets_title, ".4f"),
        Shown(AGREEMENT, AGREEMENT_TITLE, ".4f"),
    )

    def __init__(self, settings: Optional[Settings] = None) -> None:
        """`settings`: model.detection, by default its defaults."""
        self._settings = Settings() if settings is None else settings
        self._limits = Limits(self._settings.confidence, self._settings.iou, self._settings.detections)

    @property
    def float_decoding(self) -> bool:
        """As model.detection.float_decoding says."""
        return self._settings.float_decoding

    def configured(self, model: Model) -> Detection:
        """With the contract and limits of model.detection."""
        return Detection(model.detection)

    def choose(self, interface: Interface, named: Optional[str]) -> tuple[str, ...]:
        """The outputs of the contract; with model.judged set, that one alone.

        Raises:
            ConfigError: several contracts fit, or model.judged names no output.
        """
        if named is not None:
            require_output([spec.name for spec in interface.outputs], named)
        outputs = [spec for spec in interface.outputs if named in (None, spec.name)]
        fits = self._fitting(outputs, size_of(interface))
        if len(fits) > 1:
            names = ", ".join(contract.name for contract in fits)
            raise ConfigError(
                f"model.detection.contract: the outputs of the model, {_listed(outputs)}, may be of the contracts"
                f" {names}; set it to the one that they are of (docs/detection.md)"
            )
        if not fits:  # `check` says why
            return tuple(spec.name for spec in outputs)
        return fits[0].choose(outputs, size_of(interface)) or ()

    def takes_for(self, judged: Interface) -> str:
        """The contract that the shapes leave, where model.detection.contract states none."""
        fits = self._fitting(judged.outputs, size_of(judged))
        if self._settings.contract is not None or len(fits) != 1:
            return ""
        return (
            f"by its shapes, {_listed(judged.outputs)} is taken for the contract {fits[0].name} ({fits[0].means});"
            " model.detection.contract states another"
        )

    def class_count(self, judged: Interface) -> Optional[int]:
        """By the contract; of `detr` it is unknown, as one column may stand for no object."""
        fits = self._fitting(judged.outputs, size_of(judged))
        return fits[0].classes(judged.outputs) if len(fits) == 1 else None

    def check(self, interface: Interface, of: str) -> None:
        """Raises ModelError unless the outputs are of the contract, or of one of all."""
        if self._fitting(interface.outputs, size_of(interface)):
            return
        wanted, contract = CONTRACTS, self._settings.contract
        if contract is not None:
            wanted = tuple(one for one in CONTRACTS if one.name == contract.value)
        means = "; ".join(f"{one.name}: {one.means}" for one in wanted)
        raise ModelError(
            f"the outputs of {of} are {_listed(interface.outputs)}, and model.task detection judges {means}; set"
            " model.judged to the right output, model.detection.contract to what it means, or model.task to what the"
            " model does"
        )

    def decode(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], size: Optional[Size]) -> Outputs:
        """Detections after suppression, in pixels of the image; of an image whose outputs are NaN or infinite all are.

        Raises:
            ModelError: the outputs are of no contract or of several, or no input takes images.
        """
        raw = {name: np.asarray(output, np.float32) for name, output in outputs.items()}
        contract = self._contract(interface_of(raw).outputs, size)
        if size is None:
            raise ModelError(
                "model.task detection judges boxes in pixels, and the model has no input [N, C, H, W] that takes images"
            )
        broken = {name: ~np.isfinite(output).reshape(len(output), -1) for name, output in raw.items()}
        clean = {name: np.nan_to_num(output) if broken[name].any() else output for name, output in raw.items()}
        found = contract.decode(clean, size, self._limits)
        for rows, its in zip(found, geometry):
            rows[:, :4] = its.boxes_to_image(rows[:, :4])
        together = stacked(found, self._limits.detections)
        for name, output in raw.items():
            for index in np.flatnonzero(broken[name].any(axis=1)):
                together[index] = np.inf if np.isinf(output[index]).any() else np.nan
        return together

    def targets(self, images: ImageSet) -> Optional[Column]:
        """The boxes; None where the set has none, or not a single one."""
        boxes = images.targets
        return boxes if boxes is not None and any(len(truths) for truths in boxes) else None

    def check_batch(self, outputs: Outputs, targets: Optional[Targets], names: Sequence[str]) -> None:
        """Targets are rows of seven numbers."""
        del outputs
        if targets is None:
            return
        for name, truths in zip(names, targets):
            if truths.ndim != 2 or truths.shape[1] != TRUTH_COLUMNS:
                raise DataError(
                    f"{name} has targets {list(truths.shape)}, and model.task detection takes [boxes, {TRUTH_COLUMNS}]:"
                    " x1, y1, x2, y2 in pixels, class, area, crowd"
                )

    def baseline(self, targets: Column) -> Optional[float]:
        """0: no constant answer finds anything."""
        del targets
        return 0.0

    def answers_alike(self, fp32: Evaluation) -> bool:
        """Whether nothing is found in any image with a score that would be shown."""
        return not any(len(shown(found)) for found in fp32.rows["found"])

    def score(
        self, outputs: Outputs, targets: Optional[Targets], reference: Optional[Outputs], mean: Optional[Outputs] = None
    ) -> pd.DataFrame:
        """Judge a batch of detections.

        Args:
            outputs: float32 [n, most, 6], of the engine under test.
            targets: [n] lists of truths, or None.
            reference: float32 [n, most, 6], of FP32 for the same images.
            mean: nothing is asked of it.

        Returns:
            A row an image: `found` (float32 [k, 6]); with targets `truth` (float64 [m, 7]); with a reference
                `reference` (float32 [k, 6]) and `agreement` (`likeness`).
        """
        import pandas as pd

        del mean
        found = [unstacked(rows) for rows in outputs]
        columns: dict[str, Any] = {"found": _objects(found)}
        if targets is not None:
            columns["truth"] = _objects([np.asarray(truths, np.float64) for truths in targets])
        if reference is not None:
            wanted = [unstacked(rows) for rows in reference]
            columns["reference"] = _objects(wanted)
            columns[AGREEMENT] = [likeness(own, its) for own, its in zip(found, wanted)]
        return pd.DataFrame(columns)

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        """COCO's metrics against the targets, mAP50-95 against FP32's detections, and the mean agreement.

        A class or a size of which there is no target does not count, and a metric without any is absent.
        """
        del classes
        found: dict[str, Any] = {}
        if "truth" in rows:
            whole = self._evaluate(rows, list(rows["truth"]))
            found.update({name: whole[name] for name in precision.METRICS if not np.isnan(whole[name])})
        if "reference" in rows:
            value = self._evaluate(rows, truths_of_fp32(rows["reference"]))["map50_95"]
            found.update({OF_FP32: value} if not np.isnan(value) else {})
            found[AGREEMENT] = float(rows[AGREEMENT].mean())
        return found

    def compare(self, rows: pd.DataFrame, fp32: pd.DataFrame, confidence: float) -> dict[str, Any]:
        """The difference in mAP50-95, engine minus FP32, and intervals by the (paired) bootstrap over images."""
        found: dict[str, Any] = {}
        if "reference" in rows:
            low, high = self._of_fp32(rows, 0.0).interval(confidence)
            found[f"{OF_FP32}_low"], found[f"{OF_FP32}_high"] = low, high
        if "truth" in rows:
            difference = self.estimate(rows, fp32, 1.0)
            low, high = difference.interval(confidence)
            found[f"{self.metric}_difference"] = difference.value
            found[f"{self.metric}_difference_low"], found[f"{self.metric}_difference_high"] = low, high
        return found

    def estimate(self, rows: pd.DataFrame, fp32: pd.DataFrame, ratio: float) -> Estimate:
        """By the paired bootstrap over images, see `statistics.Resampled`."""
        if "truth" not in fp32:
            return self._of_fp32(rows, ratio)
        truths = list(fp32["truth"])
        own, its = (self._matches(frame, truths) for frame in (rows, fp32))

        def difference(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            """How often each image was drawn."""
            return np.asarray(precision.weighted(own, times) - ratio * precision.weighted(its, times))

        return resampled(difference, len(rows), -ratio, 1.0)

    def noise(self, rows: pd.DataFrame) -> Optional[Estimate]:
        """None: the power of pixels and scores together says nothing of boxes."""
        del rows
        return None

    def noise_of(self, figures: Figures) -> float:
        """What is missing of the agreement: mAP is too coarse on a few hundred images."""
        return 1 - float(figures.get(AGREEMENT, 1.0))

    def tables(self, images: ImageSet, rows: Mapping[str, pd.DataFrame], classes: int) -> Tables:
        """AP of each class, images whose detections differ from FP32's, objects confused, agreement of each image."""
        del classes
        return tables.tables(images, rows, self._by_class)

    def _of_fp32(self, rows: pd.DataFrame, minus: float) -> Estimate:
        """The mAP50-95 against FP32's detections, less a constant. FP32's own is 1."""
        if "reference" not in rows:
            return Resampled(1 - minus, len(rows), np.full(1, 1 - minus), -minus, 1 - minus)
        matched = self._matches(rows, truths_of_fp32(rows["reference"]))
        if not matched:
            raise DataError(
                f"fp32 finds nothing with a score of {SHOWN} or more in {len(rows)} images, so no engine can be held"
                " against its detections; check data.preprocessing and model.detection.contract, or bring labels"
            )
        return resampled(lambda times: precision.weighted(matched, times) - minus, len(rows), -minus, 1 - minus)

    def _by_class(self, rows: pd.DataFrame, truths: Sequence[Truths]) -> list[float]:
        by_class: list[float] = self._evaluate(rows, truths)["by_class"]
        return by_class

    def _evaluate(self, rows: pd.DataFrame, truths: Sequence[Truths]) -> dict[str, Any]:
        found: list[Detections] = list(rows["found"])
        return precision.evaluate(found, truths, _classes(found, truths), self._limits.detections)

    def _matches(self, rows: pd.DataFrame, truths: Sequence[Truths]) -> list[precision.Matches]:
        found: list[Detections] = list(rows["found"])
        return precision.matches(found, truths, _classes(found, truths), self._limits.detections)

    def _fitting(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> list[Contract]:
        asked = self._settings.contract
        if asked is None:
            return fitting(outputs, size)
        named = [contract for contract in CONTRACTS if contract.name == asked.value]
        return [contract for contract in named if contract.choose(outputs, None) is not None]

    def _contract(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Contract:
        fits = self._fitting(outputs, size)
        if len(fits) != 1:
            names = ", ".join(contract.name for contract in fits) or "none"
            raise ModelError(
                f"the outputs {_listed(outputs)} may be of the contracts {names}; set model.detection.contract to the"
                " one that they are of"
            )
        return fits[0]


def size_of(interface: Interface) -> Optional[Size]:
    """Height and width of the first input that takes images, if they are fixed."""
    for spec in interface.inputs:
        if len(spec.shape) == len(("N", "C", "H", "W")):
            sides = spec.shape[2:] if spec.shape[1] in PLANES else spec.shape[1:3]
            return (sides[0], sides[1]) if isinstance(sides[0], int) and isinstance(sides[1], int) else None
    return None


def truths_of_fp32(reference: pd.Series[Any]) -> list[Truths]:
    """What stands in for the targets where there are none."""
    return [precision.unlabelled(found, SHOWN) for found in reference]


def _classes(found: Sequence[Detections], truths: Sequence[Truths]) -> int:
    """How many there are at least."""
    kinds = [rows[:, CLASS] for rows in found] + [rows[:, TRUTH_CLASS] for rows in truths]
    return 1 + max((int(classes.max()) for classes in kinds if len(classes)), default=0)


def _objects(values: Sequence[Array]) -> Any:
    import pandas as pd

    column = np.empty(len(values), object)
    for index, value in enumerate(values):
        column[index] = value
    return pd.Series(column, dtype=object)


def _listed(outputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}' [{', '.join(['N', *(str(axis) for axis in spec.shape[1:])])}]" for spec in outputs)


TASK = Detection()
