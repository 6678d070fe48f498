"""What each choice of calibration gave over the experiments of a grid: ranked, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import pandas as pd

CHOICE = {"algorithm": "calibration.algorithm", "images": "data.calibration_images", "selection": "data.selection"}
DECIDE_NOTHING = (
    "accuracy",
    "benchmark",
    "check_drift",
    "profile_layers",
    "data.selection_seed",
)  # no INT8 figure depends on these
NORMAL_95 = 1.96
BEST, AS_GOOD = "best", "="


@dataclass(frozen=True)
class Experiment:
    """Accuracy of INT8 in one experiment, and what it was calibrated with."""

    algorithm: str
    images: int
    selection: str
    seed: Optional[int]  # of the selection
    figure: str  # that the gate judges
    value: float
    reference: Optional[float]  # FP32's
    sqnr_db: Optional[float]
    agreement: Optional[float]
    validation_images: int
    target: str  # its fields, as text
    timestamp: str  # ISO 8601, of the experiment's commit
    params: Mapping[str, Any]  # dotted


@dataclass
class Grid:
    """What is shown."""

    table: pd.DataFrame  # a row a choice, the best first
    choice: list[str]  # the columns that make a choice
    figure: str  # top1, or agreement where there are no labels, or what else the gate judges
    reference: Optional[float]  # of FP32, the mean over the experiments
    validation_images: int
    notes: list[str] = field(default_factory=list)


def compare(experiments: Sequence[Experiment]) -> Grid:
    """The table of choices, of one experiment at least."""
    import pandas as pd

    frame = pd.DataFrame([vars(one) for one in experiments])
    notes: list[str] = []
    figure = str(frame["figure"].mode()[0])
    if others := int((frame["figure"] != figure).sum()):
        notes.append(f"{others} experiments are left out: they are judged by another figure than {figure}")
    frame = frame[frame["figure"] == figure]
    if frame["target"].nunique() > 1:
        notes.append(f"the experiments ran on {frame['target'].nunique()} different targets")
    if frame["validation_images"].nunique() > 1:
        notes.append("the experiments were validated on different numbers of images")
    choice = [*CHOICE, *_further_choices(frame)]
    images = int(frame["validation_images"].min())
    reference = float(frame["reference"].mean()) if frame["reference"].notna().any() else None
    table = _ranked(_by_choice(frame, choice), images)
    return Grid(table, choice, figure, reference, images, [*_closing(table, figure, images), *notes])


def _further_choices(frame: pd.DataFrame) -> list[str]:
    """Parameters beside CHOICE that differ between the experiments and may decide a figure; each becomes a column of
    `frame`.
    """
    skipped = (*CHOICE.values(), *DECIDE_NOTHING)
    keys = sorted(
        {
            key
            for params in frame["params"]
            for key in params
            if not any(key == own or key.startswith(f"{own}.") for own in skipped)
        }
    )
    varying = [key for key in keys if len({params.get(key) for params in frame["params"]}) > 1]
    if "seed" in varying and frame["seed"].equals(frame["params"].map(lambda params: params["seed"])):
        varying.remove(
            "seed"
        )  # it is the selection's seed that is swept, by the name it has without data.selection_seed
    for key in varying:
        frame[key] = [params.get(key) for params in frame["params"]]
    return varying


def _by_choice(frame: pd.DataFrame, choice: list[str]) -> pd.DataFrame:
    """A row a choice: seeds, and mean, least, greatest value and standard deviation (n - 1) of the figure and the SQNR
    over them.
    """
    latest = frame.sort_values("timestamp", kind="stable").drop_duplicates([*choice, "seed"], keep="last")
    groups = latest.groupby(choice, sort=True, dropna=False)
    return groups.agg(
        seeds=("value", "size"),
        mean=("value", "mean"),
        least=("value", "min"),
        greatest=("value", "max"),
        deviation=("value", "std"),
        sqnr_mean=("sqnr_db", "mean"),
        sqnr_least=("sqnr_db", "min"),
        sqnr_greatest=("sqnr_db", "max"),
        sqnr_deviation=("sqnr_db", "std"),
        agreement=("agreement", "mean"),
    ).reset_index()


def _ranked(table: pd.DataFrame, images: int) -> pd.DataFrame:
    """First the choices that the validation images cannot tell from the most accurate, by SQNR; then the others, by the
    figure.

    Two engines answer differently on at most (1 - agreement) + (1 - agreement) of the images, as each is compared with
    FP32. The difference of two paired shares has a variance of at most that over the number of images (Agresti,
    "Categorical Data Analysis", 10.1).
    """
    top = int(table["mean"].to_numpy().argmax())
    changed = 1 - table["agreement"].fillna(0)
    discordant = changed + changed.iloc[top]
    told_apart = table["mean"].iloc[top] - table["mean"] > NORMAL_95 * (discordant / images) ** 0.5
    ordered = table.assign(
        rank=told_apart.map({False: AS_GOOD, True: ""}), key=table["sqnr_mean"].where(~told_apart, table["mean"])
    )
    ordered = (
        ordered.sort_values(["rank", "key", "mean"], ascending=False, kind="stable")
        .drop(columns="key")
        .reset_index(drop=True)
    )
    ordered.loc[0, "rank"] = BEST
    return ordered


def _closing(table: pd.DataFrame, figure: str, images: int) -> list[str]:
    equal = int((table["rank"] != "").sum())
    lines = [
        f"{images} validation images cannot tell {equal} of {len(table)} choices apart by {figure} ({AS_GOOD}, 95 %);"
        " SQNR ranks those"
    ]
    if (table["seeds"] == 1).all():
        lines.append("one seed each: sweep data.selection_seed=1,2,3 to see the spread")
    elif table["sqnr_deviation"].notna().any():
        pooled = float((table["sqnr_deviation"] ** 2).mean() ** 0.5)
        lines.append(
            f"other images of the same choice move its SQNR by {pooled:.2f} dB (standard deviation over seeds, pooled):"
            " believe no smaller lead"
        )
    return lines
