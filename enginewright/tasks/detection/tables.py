"""The tables of detections that validate_accuracy leaves for people and for DVC plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewright.data import ImageSet
from enginewright.tasks.base import AGREEMENT, FP32, Tables
from enginewright.tasks.detection.boxes import CLASS, Detections, overlaps
from enginewright.tasks.detection.likeness import likeness
from enginewright.tasks.detection.matching import SHOWN, as_detections, of_one_class, pairs, shown
from enginewright.tasks.detection.precision import TRUTH_CLASS, Truths, unlabelled
from enginewright.tasks.tables import CONFUSION_CLASSES, OTHER, recall_series

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "(nothing)"  # beside an object that was not found, and a box where there is no object

Rows = Mapping[str, "pd.DataFrame"]  # precision -> rows of `Detection.score`
ByClass = Callable[["pd.DataFrame", Sequence[Truths]], "list[float]"]  # AP of each class, NaN without a target


def tables(images: ImageSet, rows: Rows, by_class: ByClass) -> Tables:
    """See `Task.tables`."""
    truths = truths_of(rows)
    names = class_names(images, rows, truths)
    classes = _class_table(rows, truths, names, by_class)
    return {
        "classes.csv": classes,
        "recall.csv": recall_series(classes),
        "changed.csv": _changed(images, rows),
        **{f"confusion_{precision}.csv": _confusion(frame, truths, names) for precision, frame in rows.items()},
        "predictions.csv": _predictions(images, rows),
    }


def truths_of(rows: Rows) -> list[Truths]:
    """The targets, or what stands in for them: FP32's detections that would be shown."""
    fp32 = rows[FP32]
    if "truth" in fp32:
        return list(fp32["truth"])
    return [unlabelled(found, SHOWN) for found in fp32["found"]]


def class_names(images: ImageSet, rows: Rows, truths: Sequence[Truths]) -> list[str]:
    """A name for each class that occurs or comes before one that does; its number where the images bring none."""
    kinds = [found[:, CLASS] for frame in rows.values() for found in frame["found"]]
    kinds += [truth[:, TRUTH_CLASS] for truth in truths]
    most = 1 + max((int(classes.max()) for classes in kinds if len(classes)), default=-1)
    given = images.classes
    return [given[index] if index < len(given) else str(index) for index in range(max(most, len(given)))]


def _class_table(rows: Rows, truths: Sequence[Truths], names: Sequence[str], by_class: ByClass) -> pd.DataFrame:
    """A row for each class with targets: class, images and boxes that hold it, and for each precision ap and ap_delta,
    or without targets agreement, which is AP against FP32's detections.
    """
    import pandas as pd

    boxes = np.zeros(len(names), np.int64)
    held = np.zeros(len(names), np.int64)
    for truth in truths:
        kinds = truth[:, TRUTH_CLASS].astype(np.int64)
        boxes += np.bincount(kinds, minlength=len(names))
        held[np.unique(kinds)] += 1
    occurring = np.flatnonzero(boxes)
    table: dict[str, Any] = {"class": [names[int(index)] for index in occurring]}
    table["images"], table["boxes"] = held[occurring], boxes[occurring]
    found = {precision: np.asarray(by_class(frame, truths))[occurring] for precision, frame in rows.items()}
    for precision, values in found.items():
        if "truth" in rows[FP32]:
            table[f"ap_{precision}"] = values
            if precision != FP32:
                table[f"ap_delta_{precision}"] = values - found[FP32]
        elif precision != FP32:
            table[f"{AGREEMENT}_{precision}"] = values
    return pd.DataFrame(table)


def _changed(images: ImageSet, rows: Rows) -> pd.DataFrame:
    """A row for each image and engine whose shown detections are not all FP32's: the boxes of FP32 and of the engine,
    those lost and those added, and the agreement; the least alike first.
    """
    import pandas as pd

    changed = []
    for precision, frame in rows.items():
        if precision == FP32:
            continue
        for index, (found, reference) in enumerate(zip(frame["found"], frame["reference"])):
            own, wanted = shown(found), shown(reference)
            kept = len(pairs(of_one_class(own, wanted)))
            if kept < max(len(own), len(wanted)):
                lost, added = len(wanted) - kept, len(own) - kept
                changed.append(
                    (precision, images.names[index], len(wanted), len(own), lost, added, frame[AGREEMENT].iloc[index])
                )
    columns = ["precision", "name", "fp32", "predicted", "lost", "added", AGREEMENT]
    table = pd.DataFrame(changed, columns=columns)
    return table.sort_values(["precision", AGREEMENT], kind="stable", ignore_index=True)


def _confusion(rows: pd.DataFrame, truths: Sequence[Truths], names: Sequence[str]) -> pd.DataFrame:
    """Columns actual and predicted, a row for each object and for each shown box without one, as DVC's template
    `confusion` counts them.

    With more than CONFUSION_CLASSES classes, those with the most errors remain, and what else was answered is OTHER.
    """
    import pandas as pd

    nothing = len(names)
    cells: list[tuple[int, int]] = []
    for found, truth in zip(rows["found"], truths):
        own, wanted = shown(found), as_detections(truth)
        paired = pairs(overlaps(own, wanted))
        cells += [(int(wanted[column, CLASS]), int(own[row, CLASS])) for row, column in paired]
        cells += [(int(row[CLASS]), nothing) for row in np.delete(wanted, paired[:, 1], axis=0)]
        cells += [(nothing, int(row[CLASS])) for row in np.delete(own, paired[:, 0], axis=0)]
    table = pd.DataFrame(cells, columns=["actual", "predicted"])
    labels = [*names, NOTHING, OTHER]
    if len(names) > CONFUSION_CLASSES:
        wrong = table[table["actual"] != table["predicted"]]["actual"].value_counts(sort=True)
        kept = {*wrong.head(CONFUSION_CLASSES).index, nothing}
        table = table[table["actual"].isin(kept)]
        table = table.assign(predicted=table["predicted"].where(table["predicted"].isin(kept), nothing + 1))
    return pd.DataFrame({column: [labels[index] for index in table[column]] for column in table})


def _predictions(images: ImageSet, rows: Rows) -> pd.DataFrame:
    """A row an image: its name, how many boxes FP32 shows, and how like the targets, or FP32's detections where there
    are none, each engine's are (`likeness`).
    """
    import pandas as pd

    fp32 = rows[FP32]
    table: dict[str, Any] = {"name": list(images.names), "boxes": [len(shown(found)) for found in fp32["found"]]}
    for precision, frame in rows.items():
        table[precision] = [likeness(own, its) for own, its in zip(frame["found"], _wanted(fp32))]
    return pd.DataFrame(table)


def _wanted(fp32: pd.DataFrame) -> list[Detections]:
    if "truth" in fp32:
        return [as_detections(truth) for truth in fp32["truth"]]
    return list(fp32["found"])
