"""The tables that validate_accuracy leaves for people and for DVC plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from enginewright.data import ImageSet

if TYPE_CHECKING:
    import pandas as pd

CONFUSION_CLASSES = 20  # more rows and columns than this cannot be read on a page
OTHER = "(other)"

Rows = Mapping[str, "pd.DataFrame"]  # precision -> rows of `metrics.per_image`


def class_names(images: ImageSet, classes: int) -> list[str]:
    """A name for each output of the model; its index where the images bring none."""
    return [images.classes[index] if index < len(images.classes) else str(index) for index in range(classes)]


def prediction_table(images: ImageSet, rows: Rows, names: list[str]) -> pd.DataFrame:
    """Columns name, label (absent without labels) and one a precision, holding class names; a row an image."""
    import pandas as pd

    table: dict[str, Any] = {"name": list(images.names)}
    if images.labels is not None:
        table["label"] = [names[label] for label in images.labels]
    for precision, frame in rows.items():
        table[precision] = [names[prediction] for prediction in frame["prediction"]]
    return pd.DataFrame(table)


def class_table(images: ImageSet, rows: Rows, names: list[str]) -> pd.DataFrame:
    """A row for each class that occurs, in the order of the outputs.

    Columns: class, images, and for each precision recall and recall_delta (against FP32). Without labels FP32's answer
    stands in for the label, and the columns are agreement instead.
    """
    import pandas as pd

    truth = images.labels if images.labels is not None else rows["fp32"]["prediction"].to_numpy(np.int64)
    grouped = pd.DataFrame(
        {"class": truth, **{name: frame["prediction"].to_numpy() == truth for name, frame in rows.items()}}
    ).groupby("class")
    means, counts = grouped.mean(), grouped.size()
    table = pd.DataFrame({"class": [names[index] for index in means.index], "images": counts.to_numpy()})
    for precision in rows:
        if images.labels is None:
            if precision != "fp32":
                table[f"agreement_{precision}"] = means[precision].to_numpy()
            continue
        table[f"recall_{precision}"] = means[precision].to_numpy()
        if precision != "fp32":
            table[f"recall_delta_{precision}"] = (means[precision] - means["fp32"]).to_numpy()
    return table


def recall_series(classes: pd.DataFrame) -> pd.DataFrame:
    """A task's class table as one row a class and precision: class, precision, share_right (its recall or IoU, or
    without targets agreement with FP32).

    One column name for all, as the plot in dvc.yaml names its column.
    """
    names = [str(column) for column in classes]
    kind = next((name[: -len("_fp32")] for name in names if name.endswith("_fp32")), "agreement")
    columns = {name: name[len(kind) + 1 :] for name in names if name.startswith(f"{kind}_") and "delta" not in name}
    return classes.rename(columns=columns).melt(
        id_vars="class", value_vars=list(columns.values()), var_name="precision", value_name="share_right"
    )


def confusion_table(
    images: ImageSet, rows: pd.DataFrame, names: list[str], reference: Optional[pd.DataFrame] = None
) -> pd.DataFrame:
    """Columns actual and predicted, a row an image, as DVC's template `confusion` counts them.

    Args:
        images: with labels, or else `reference` stands in for them.
        rows: of the engine.
        names: of the classes.
        reference: rows of FP32.

    With more than CONFUSION_CLASSES classes, those with the most errors remain, and what else was answered is OTHER.
    """
    import pandas as pd

    truth = (
        images.labels
        if images.labels is not None
        else (reference if reference is not None else rows)["prediction"].to_numpy(np.int64)
    )
    table = pd.DataFrame({"actual": truth, "predicted": rows["prediction"].to_numpy()})
    if len(names) > CONFUSION_CLASSES:
        wrong = table[table["actual"] != table["predicted"]]
        shown = set(wrong["actual"].value_counts(sort=True).head(CONFUSION_CLASSES).index)
        table = table[table["actual"].isin(shown)]
        predicted = [names[index] if index in shown else OTHER for index in table["predicted"]]
    else:
        predicted = [names[index] for index in table["predicted"]]
    return pd.DataFrame({"actual": [names[index] for index in table["actual"]], "predicted": predicted})


def changed_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """The images on which an engine departs from FP32: precision, name, label (if known), fp32, predicted."""
    import pandas as pd

    others = [str(column) for column in predictions if column not in ("name", "label", "fp32")]
    known = [column for column in ("name", "label", "fp32") if column in predictions]
    parts = []
    for other in others:
        departing = predictions[predictions[other] != predictions["fp32"]]
        parts.append(departing[known].assign(precision=other, predicted=departing[other]))
    columns = ["precision", *known, "predicted"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
