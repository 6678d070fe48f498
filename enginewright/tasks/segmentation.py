"""A class for each pixel: mean IoU against the targets, agreement of pixels with FP32 where there are none.

A row of an image keeps the cells of its confusion matrix that are not empty. Every figure of a set follows from their
sums, of any choice of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Model
from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.data.geometry import Geometry
from enginewright.data.imageset import IGNORED
from enginewright.errors import DataError
from enginewright.feeds import Array
from enginewright.interface import Interface
from enginewright.statistics import Estimate, resampled
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
from enginewright.tasks.metrics import noise_estimate, noise_metrics, noise_power
from enginewright.tasks.tables import CONFUSION_CLASSES, OTHER, class_names, recall_series

if TYPE_CHECKING:
    import pandas as pd

CONFUSION_ROWS = 10_000  # DVC's template counts rows, and a row a pixel would be millions

Counts = npt.NDArray[np.int64]


class Segmentation:
    """Outputs are logits [n, classes, H, W], targets uint8 [n, H, W], indices of outputs or IGNORED."""

    metric = "mean_iou"
    title = "mean IoU"
    name = "segmentation"
    judges = "[N, classes, H, W], two classes at least"
    class_metric = "iou"
    without_targets = AGREEMENT
    without_targets_title = AGREEMENT_TITLE
    float_decoding = False
    every_output = False
    shown: Sequence[Shown] = (
        Shown("mean_iou", "mean IoU", ".4f", of_targets=True),
        Shown("pixel_accuracy", "pixel accuracy", ".4f", of_targets=True),
        Shown("agreement", "agreement of pixels with fp32", ".4f"),
        Shown("sqnr_db", "SQNR (dB)", ".1f"),
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
        require_outputs(self, interface, of, rank=4)

    def decode(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], size: Optional[Size]) -> Outputs:
        """The one output, float32."""
        del geometry, size
        (output,) = outputs.values()
        return np.asarray(output, np.float32)

    def targets(self, images: ImageSet) -> Optional[Column]:
        """The targets by pixel. Labels of whole images say nothing of pixels."""
        return images.targets

    def check_batch(self, outputs: Outputs, targets: Optional[Targets], names: Sequence[str]) -> None:
        """A target is of the size of the output, and each of its pixels the index of an output."""
        if targets is None:
            return
        classes, size = outputs.shape[1], outputs.shape[2:]
        if targets.shape[1:] != size:
            raise DataError(
                f"{names[0]} has targets of {list(targets.shape[1:])} pixels, and the model answers {list(size)}; "
                "let it upsample its output to the size of its input"
            )
        if targets.dtype.kind not in "iu":
            raise DataError(
                f"{names[0]} has targets of {targets.dtype}, and a class is a whole number; give them as uint8, with"
                f" {IGNORED} where a pixel does not count"
            )
        beyond = ((targets < 0) | (targets >= classes) & (targets != IGNORED)).any(axis=(1, 2))
        if beyond.any():
            index = int(np.flatnonzero(beyond)[0])
            known = targets[index][targets[index] != IGNORED]
            found = int(known.min()) if known.min() < 0 else int(known.max())
            raise DataError(
                f"{names[index]} has a pixel of class {found}, and the model knows {classes}; targets must be the"
                " indices of its outputs"
            )

    def baseline(self, targets: Column) -> Optional[float]:
        """Mean IoU where every pixel is answered with the most frequent class; None where all are ignored."""
        pixels = sum(np.bincount(target[target != IGNORED].ravel(), minlength=IGNORED) for target in targets)
        total, present = int(np.sum(pixels)), int(np.count_nonzero(pixels))
        return float(np.max(pixels)) / total / present if total else None

    def answers_alike(self, fp32: Evaluation) -> bool:
        """Whether one class is the answer to all pixels of all images."""
        return len({int(answered) for cells in fp32.rows["cells"] for answered in cells[:, 1]}) == 1

    def score(
        self, outputs: Outputs, targets: Optional[Targets], reference: Optional[Outputs], mean: Optional[Outputs] = None
    ) -> pd.DataFrame:
        """Judge a batch of finite outputs.

        Args:
            outputs: [n, classes, H, W] logits of the engine under test.
            targets: uint8 [n, H, W], or None; FP32's answers then stand in for them in `cells`, or the engine's own
                without those.
            reference: [n, classes, H, W] logits of FP32 for the same images.
            mean: nothing is asked of it.

        Returns:
            A row an image: `pixels`; `cells` (int64 [k, 3]: true class, answered class, pixels); with targets `iou`
                (mean over the classes in the image, NaN if all is ignored); with a reference `agreeing` (pixels),
                `signal` and `noise` (sums of squares of the reference and of the difference).
        """
        import pandas as pd

        del mean
        answers = outputs.argmax(axis=1)
        wanted = answers if reference is None else np.asarray(reference).argmax(axis=1)
        columns: dict[str, Any] = {"pixels": np.full(len(outputs), answers[0].size)}
        if reference is not None:
            want, have = np.asarray(reference, np.float64), np.asarray(outputs, np.float64)
            columns["agreeing"] = (answers == wanted).sum(axis=(1, 2))
            columns["signal"] = np.square(want).sum(axis=(1, 2, 3))
            columns["noise"] = np.square(want - have).sum(axis=(1, 2, 3))
        cells = _cells(wanted if targets is None else targets, answers, outputs.shape[1])
        columns["cells"] = pd.Series(cells, dtype=object)
        if targets is not None:
            columns["iou"] = _mean_iou(*_areas(cells, outputs.shape[1]))
        return pd.DataFrame(columns)

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        """Mean over classes of intersection over union of all pixels of the images (PASCAL VOC), pixel accuracy,
        agreement, SQNR.

        A class that no image has and no answer names does not count.
        """
        found: dict[str, Any] = {}
        if "iou" in rows:
            intersection, union = (area.sum(axis=0) for area in _areas(list(rows["cells"]), classes))
            counted = sum(int(cells[:, 2].sum()) for cells in rows["cells"])
            if counted:
                found["mean_iou"] = float(_mean_iou(intersection, union))
                found["pixel_accuracy"] = int(intersection.sum()) / counted
        if "agreeing" in rows:
            found.update({"agreement": int(rows["agreeing"].sum()) / int(rows["pixels"].sum()), **noise_metrics(rows)})
        return found

    def compare(self, rows: pd.DataFrame, fp32: pd.DataFrame, confidence: float) -> dict[str, Any]:
        """The difference in mean IoU, engine minus FP32, and intervals of it and of the agreement by the (paired)
        bootstrap over images.
        """
        found: dict[str, Any] = {}
        if "agreeing" in rows:
            found["agreement_low"], found["agreement_high"] = _agreement(rows, 0.0).interval(confidence)
        if "iou" not in rows or rows["iou"].isna().all():
            return found
        better = rows["iou"].to_numpy() - fp32["iou"].to_numpy()
        difference = self.estimate(rows, fp32, 1.0)
        found["mean_iou_difference"] = difference.value
        found.update(images_better=int((better > 0).sum()), images_worse=int((better < 0).sum()))  # by their own IoU
        found["mean_iou_difference_low"], found["mean_iou_difference_high"] = difference.interval(confidence)
        return found

    def estimate(self, rows: pd.DataFrame, fp32: pd.DataFrame, ratio: float) -> Estimate:
        """By the paired bootstrap over images, see `statistics.Resampled`."""
        if "iou" not in fp32 or fp32["iou"].isna().all():
            return _agreement(rows, ratio)
        classes = 1 + max(int(cells[:, :2].max()) for frame in (rows, fp32) for cells in frame["cells"] if len(cells))
        areas = [*_areas(list(rows["cells"]), classes), *_areas(list(fp32["cells"]), classes)]

        def difference(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            """How often each image was drawn, times its areas."""
            sums = [times @ area for area in areas]
            return np.asarray(_mean_iou(*sums[:2]) - ratio * _mean_iou(*sums[2:]))

        return resampled(difference, len(rows), -ratio, 1.0)

    def noise(self, rows: pd.DataFrame) -> Optional[Estimate]:
        """See `metrics.noise_estimate`."""
        return noise_estimate(rows["signal"].to_numpy(), rows["noise"].to_numpy())

    def noise_of(self, figures: Figures) -> float:
        """See `metrics.noise_power`."""
        return noise_power(figures)

    def tables(self, images: ImageSet, rows: Mapping[str, pd.DataFrame], classes: int) -> Tables:
        """IoU of each class, images with pixels that FP32 answers otherwise, pixels confused, IoU of each image."""
        import pandas as pd

        names = class_names(images, classes)
        by_class = _class_table(rows, names)
        column = "iou" if "iou" in rows[FP32] else "agreement"
        predictions = pd.DataFrame({"name": list(images.names)})
        changed = []
        for precision, frame in rows.items():
            agreement = frame["agreeing"] / frame["pixels"] if "agreeing" in frame else pd.Series(1.0, frame.index)
            predictions[precision] = frame["iou"] if column == "iou" else agreement
            if precision != FP32:
                table = pd.DataFrame(
                    {"precision": precision, "name": list(images.names), "pixels": frame["pixels"] - frame["agreeing"]}
                )
                table = table.assign(fp32=predictions[FP32], predicted=predictions[precision])
                changed.append(table[table["pixels"] > 0].sort_values("pixels", ascending=False, kind="stable"))
        return {
            "classes.csv": by_class,
            "recall.csv": recall_series(by_class),
            "changed.csv": (
                pd.concat(changed, ignore_index=True)
                if changed
                else pd.DataFrame(columns=["precision", "name", "pixels", "fp32", "predicted"])
            ),
            **{f"confusion_{precision}.csv": _confusion(frame, names) for precision, frame in rows.items()},
            "predictions.csv": predictions,
        }


def _class_table(rows: Mapping[str, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """A row for each class that occurs: class, images and pixels that hold it, and for each precision iou and
    iou_delta, or agreement (IoU with FP32).
    """
    import pandas as pd

    areas = {
        precision: [area.sum(axis=0) for area in _areas(list(frame["cells"]), len(names))]
        for precision, frame in rows.items()
    }
    held = np.stack([np.bincount(cells[:, 0], cells[:, 2], len(names)) for cells in rows[FP32]["cells"]]).astype(
        np.int64
    )
    occurring = np.flatnonzero(held.sum(axis=0))
    table: dict[str, Any] = {"class": [names[int(index)] for index in occurring]}
    table["images"], table["pixels"] = (held > 0).sum(axis=0)[occurring], held.sum(axis=0)[occurring]
    shares = {
        precision: intersection[occurring] / union[occurring] for precision, (intersection, union) in areas.items()
    }
    for precision, share in shares.items():
        if "iou" not in rows[FP32]:
            if precision != FP32:
                table[f"agreement_{precision}"] = share
            continue
        table[f"iou_{precision}"] = share
        if precision != FP32:
            table[f"iou_delta_{precision}"] = share - shares[FP32]
    return pd.DataFrame(table)


def _cells(truth: npt.NDArray[Any], answers: npt.NDArray[Any], classes: int) -> list[Counts]:
    """The cells of each image's confusion matrix that are not empty: int64 [k, 3], true class, answered class, pixels.
    Both [n, H, W].
    """
    found = []
    for wanted, given in zip(truth, answers):
        counted = wanted != IGNORED
        codes, pixels = np.unique(wanted[counted].astype(np.int64) * classes + given[counted], return_counts=True)
        found.append(np.stack([*np.divmod(codes, classes), pixels], axis=1).astype(np.int64))
    return found


def _areas(cells: Sequence[Counts], classes: int) -> tuple[Counts, Counts]:
    """Intersection and union of truth and answer, in pixels of each image and class: [n, classes] each."""
    intersection, union = np.zeros((2, len(cells), classes), np.int64)
    for index, found in enumerate(cells):
        wanted, given, pixels = found.T
        both = np.where(wanted == given, pixels, 0)
        np.add.at(intersection[index], wanted, both)
        np.add.at(union[index], wanted, pixels)
        np.add.at(union[index], given, pixels - both)
    return intersection, union


def _mean_iou(intersection: npt.NDArray[Any], union: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean over the last axis, [..., classes], of the classes whose union is not empty; NaN where all are."""
    shares = np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)
    present = (union > 0).sum(axis=-1)
    mean: npt.NDArray[np.float64] = np.divide(
        shares.sum(axis=-1), present, out=np.full(present.shape, np.nan), where=present > 0
    )
    return mean


def _agreement(rows: pd.DataFrame, minus: float) -> Estimate:
    """The mean over images of their pixels that are answered as by FP32, less a constant."""
    shares = (rows["agreeing"] / rows["pixels"]).to_numpy() if "agreeing" in rows else np.ones(len(rows))
    return resampled(lambda times: times @ shares / len(shares) - minus, len(shares), -minus, 1 - minus)


def _confusion(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns actual and predicted as DVC's template `confusion` counts them: CONFUSION_ROWS rows at most stand for all
    pixels.

    With more than CONFUSION_CLASSES classes, those with the most errors remain, and what else was answered is OTHER.
    """
    import pandas as pd

    cells = pd.DataFrame(np.concatenate(list(rows["cells"])), columns=["actual", "predicted", "pixels"])
    cells = cells.groupby(["actual", "predicted"], as_index=False).sum()
    if len(names) > CONFUSION_CLASSES:
        wrong = cells[cells["actual"] != cells["predicted"]].groupby("actual")["pixels"].sum()
        shown = set(wrong.sort_values(ascending=False, kind="stable").head(CONFUSION_CLASSES).index)
        cells = cells[cells["actual"].isin(shown)]
        cells = (
            cells.assign(predicted=cells["predicted"].where(cells["predicted"].isin(shown), len(names)))
            .groupby(["actual", "predicted"], as_index=False)
            .sum()
        )
    every = max(1.0, cells["pixels"].sum() / CONFUSION_ROWS)
    repeated = cells.loc[cells.index.repeat(np.round(cells["pixels"] / every).astype(int))]
    labels = [*names, OTHER]
    return pd.DataFrame({column: [labels[index] for index in repeated[column]] for column in ("actual", "predicted")})


TASK = Segmentation()
