"""`enginewright calibrations`: what each choice of calibration gave, out of the experiments of a `dvc exp run --queue`
grid.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from enginewright import grid
from enginewright.errors import StaleArtifact
from enginewright.grid import CHOICE, Experiment, Grid
from enginewright.manifest import replacing
from enginewright.views import grid as view

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
SEEDS = ("data.selection_seed", "seed")  # the first that is set
ACCURACY_FILE, PARAMS_FILE = "artifacts/metrics/validate_accuracy.json", "params.yaml"
MOST_NAMED = 3


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
    found = compare(shown)
    if arguments.csv:
        with replacing(arguments.csv) as temporary:
            found.table.to_csv(temporary, index=False)
    if arguments.markdown:
        view.show_markdown(found)
    else:
        view.show(found)
    return 0


def _ask_dvc(all_commits: bool, saved: Optional[Path]) -> str:
    if saved is not None:
        raise StaleArtifact(f"{saved} does not exist; write it with `dvc exp show --json > {saved}`")
    if importlib.util.find_spec("dvc") is None:
        raise ModuleNotFoundError(name="dvc")  # which the command line answers with the extra
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
    try:
        found, unfinished = _experiments(json.loads(shown))
    except (ValueError, TypeError, AttributeError, KeyError):
        raise StaleArtifact("this is not what `dvc exp show --json` of DVC 3 prints; write it again") from None
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
    table = grid.compare(found)
    table.notes += notes
    return table


def _experiments(revisions: list[dict[str, Any]]) -> tuple[list[Experiment], list[str]]:
    """Each experiment that ended, and the names of the others."""
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


def _row(data: Mapping[str, Any]) -> Optional[Experiment]:
    """Parameters (dotted) and figures of an experiment; None without an accuracy of INT8."""
    params = dict(_leaves((data.get("params") or {}).get(PARAMS_FILE, {}).get("data") or {}))
    metrics = (data.get("metrics") or {}).get(ACCURACY_FILE, {}).get("data") or {}
    int8 = metrics.get("int8") or {}
    figure = (metrics.get("gate") or {}).get("figure") or ("top1" if "top1" in int8 else "agreement")
    if figure not in int8 or any(key not in params for key in CHOICE.values()):
        return None
    return Experiment(
        **{name: params[key] for name, key in CHOICE.items()},
        seed=next((params[key] for key in SEEDS if params.get(key) is not None), None),
        figure=figure,
        value=float(int8[figure]),
        reference=(metrics.get("fp32") or {}).get(figure),
        sqnr_db=int8.get("sqnr_db"),
        agreement=int8.get("agreement"),
        validation_images=int(metrics["images"]),
        target=json.dumps(metrics.get("target"), sort_keys=True),
        timestamp=str(data.get("timestamp") or ""),
        params=params,
    )


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value


def _unfinished_notes(names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [
        f"without an accuracy: {', '.join(names[:MOST_NAMED])}{more} (queued, running or failed; see `dvc queue"
        " status`)"
    ]
