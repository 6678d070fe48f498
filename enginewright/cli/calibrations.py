"""`enginewright calibrations`: what each choice of calibration gave, out of the experiments of a `dvc exp run --queue`
grid.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from enginewright.errors import StaleArtifact
from enginewright.manifest import replacing

if TYPE_CHECKING:
    import pandas as pd

SUMMARY = (
    "put the calibrations of an experiment grid side by side: accuracy of INT8 by algorithm, images and selection, and"
    " its spread over seeds"
)
EXAMPLES = """examples:
  dvc exp run --queue -S accuracy=report_only -S calibration=entropy,minmax,percentile \\
      -S data.calibration_images=50,200 -S data.selection=random -S data.selection_seed=1,2,3 validate_accuracy \\
      && dvc exp run --run-all
  enginewright calibrations                       the experiments of HEAD; docs/calibration.md explains the table
  enginewright calibrations --csv grid.csv        the same, and every figure into a file
  enginewright calibrations --markdown            for a report
  dvc exp show --json > grid.json; enginewright calibrations --from grid.json"""
CHOICE = {"algorithm": "calibration.algorithm", "images": "data.calibration_images", "selection": "data.selection"}
SEEDS = ("data.selection_seed", "seed")  # the first that is set
DECIDE_NOTHING = (
    "accuracy",
    "benchmark",
    "check_drift",
    "profile_layers",
    "data.selection_seed",
)  # no INT8 figure hangs on these
ACCURACY_FILE, PARAMS_FILE = "artifacts/metrics/validate_accuracy.json", "params.yaml"
NORMAL_95 = 1.96
BEST, AS_GOOD = "best", "="
MOST_NAMED = 3


@dataclass
class Grid:
    """What is printed."""

    table: pd.DataFrame  # a row a choice, the best first
    choice: list[str]  # the columns that make a choice
    figure: str  # top1, or agreement where there are no labels, or what else the gate judges
    reference: Optional[float]  # of FP32, the mean over the experiments
    validation_images: int
    notes: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--all-commits", action="store_true", help="the experiments of every commit, not of HEAD alone")
    source.add_argument(
        "--from", dest="saved", type=Path, metavar="file", help="what `dvc exp show --json` printed elsewhere"
    )
    parser.add_argument("--csv", type=Path, metavar="file", help="write the table there too")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    shown = (
        arguments.saved.read_text()
        if arguments.saved and arguments.saved.is_file()
        else _ask_dvc(arguments.all_commits, arguments.saved)
    )
    grid = compare(shown)
    if arguments.csv:
        with replacing(arguments.csv) as temporary:
            grid.table.to_csv(temporary, index=False)
    if arguments.markdown:
        _print_markdown(grid)
    else:
        _print(grid)
    return 0


def _ask_dvc(all_commits: bool, saved: Optional[Path]) -> str:
    if saved is not None:
        raise StaleArtifact(f"{saved} does not exist; write it with `dvc exp show --json > {saved}`")
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *(["--all-commits"] if all_commits else [])]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        said = (answer.stderr.strip() or "it says nothing").splitlines()[-1]
        raise StaleArtifact(
            f"`dvc exp show` failed in {Path.cwd()} ({said}); run from the project's root, a git repository with a"
            " commit"
        )
    return answer.stdout


def compare(shown: str) -> Grid:
    """The table of choices.

    Args:
        shown: what `dvc exp show --json` prints.

    Raises:
        StaleArtifact: it is no such thing, or no experiment has an INT8 accuracy.
    """
    import pandas as pd

    try:
        found, unfinished = _experiments(json.loads(shown))
    except (ValueError, TypeError, AttributeError, KeyError):
        raise StaleArtifact("this is not what `dvc exp show --json` of DVC 3 prints; write it anew") from None
    notes = _unfinished_notes(unfinished)
    if not found:
        raise StaleArtifact(
            "; ".join(
                [
                    "no experiment has an accuracy of INT8",
                    *notes,
                    "queue a grid with the command in `enginewright calibrations --help`",
                ]
            )
        )
    frame = pd.DataFrame(found)
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


def _experiments(revisions: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each experiment that ended, and the names of the others."""
    found, unfinished = [], []
    for revision in revisions:
        for experiment in revision.get("experiments") or []:
            last = experiment["revs"][0]  # of checkpoints of old; DVC 3 has one
            # Of one that failed, is queued or runs, DVC shows the figures of the commit that it started from: they are
            # not its own.
            state = (experiment.get("executor") or {}).get("state") or "success"
            row = None if last.get("error") or state != "success" else _row(last.get("data") or {})
            if row is None:
                unfinished.append(str(experiment.get("name") or last.get("name") or last["rev"][:7]))
            else:
                found.append(row)
    return found, unfinished


def _row(data: Mapping[str, Any]) -> Optional[dict[str, Any]]:
    """Parameters (dotted) and figures of an experiment; None without an accuracy of INT8."""
    params = dict(_leaves((data.get("params") or {}).get(PARAMS_FILE, {}).get("data") or {}))
    metrics = (data.get("metrics") or {}).get(ACCURACY_FILE, {}).get("data") or {}
    int8 = metrics.get("int8") or {}
    figure = (metrics.get("gate") or {}).get("figure") or ("top1" if "top1" in int8 else "agreement")
    if figure not in int8 or any(key not in params for key in CHOICE.values()):
        return None
    return {
        **{name: params[key] for name, key in CHOICE.items()},
        "seed": next((params[key] for key in SEEDS if params.get(key) is not None), None),
        "figure": figure,
        "value": float(int8[figure]),
        "reference": (metrics.get("fp32") or {}).get(figure),
        "sqnr_db": int8.get("sqnr_db"),
        "agreement": int8.get("agreement"),
        "validation_images": int(metrics["images"]),
        "target": json.dumps(metrics.get("target"), sort_keys=True),
        "timestamp": str(data.get("timestamp") or ""),  # ISO 8601, of the experiment's commit
        "params": params,
    }


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value


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


def _unfinished_notes(names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [
        f"without an accuracy: {', '.join(names[:MOST_NAMED])}{more} (queued, running or failed; see `dvc queue"
        " status`)"
    ]


def _cells(grid: Grid) -> Iterator[list[str]]:
    for _, row in grid.table.iterrows():
        yield [
            *(str(row[name]) for name in grid.choice),
            str(row["seeds"]),
            *_spread(row, "", ".4f"),
            *_spread(row, "sqnr_", ".2f"),
            str(row["rank"]),
        ]


def _spread(row: pd.Series[Any], prefix: str, form: str) -> tuple[str, str]:
    """Mean and standard deviation, least to greatest; of one seed the mean alone."""
    mean, deviation, least, greatest = (
        float(row[f"{prefix}{name}"]) for name in ("mean", "deviation", "least", "greatest")
    )
    if math.isnan(mean):
        return "-", ""
    if row["seeds"] == 1:
        return format(mean, form), ""
    return f"{mean:{form}} ± {deviation:{form}}", f"{least:{form}} to {greatest:{form}}"


def _headers(grid: Grid) -> list[str]:
    return [*grid.choice, "seeds", f"{grid.figure} ± std", "over seeds", "SQNR ± std (dB)", "over seeds", ""]


def _title(grid: Grid) -> str:
    fp32 = "" if grid.reference is None else f"; FP32 has {grid.reference:.4f}"
    return f"{grid.figure} of INT8 by calibration, {int(grid.table['seeds'].sum())} experiments{fp32}"


def _print(grid: Grid) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(_title(grid))
    table = Table()
    for index, name in enumerate(_headers(grid)):
        table.add_column(name, justify="left" if index < len(grid.choice) else "right")
    for cells in _cells(grid):
        table.add_row(*cells, style="bold" if cells[-1] == BEST else None)
    console.width = max(
        console.width, console.measure(table, options=console.options.update(width=1000)).maximum
    )  # figures cut short are none
    console.print(table)
    for line in grid.notes:
        console.print(line)


def _print_markdown(grid: Grid) -> None:
    headers = _headers(grid)
    print(f"**{_title(grid)}**\n")
    print("| " + " | ".join(headers) + " |")
    print("|" + "---|" * len(grid.choice) + "---:|" * (len(headers) - len(grid.choice)))
    for cells in _cells(grid):
        print("| " + " | ".join(cells) + " |")
    print()
    for line in grid.notes:
        print(f"- {line}")
