"""`enginewright compare`: what the precisions give and cost, in one table, and against the committed figures."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from enginewright import comparison
from enginewright.cli.records import of_other_artifacts
from enginewright.comparison import Comparison, Measured
from enginewright.config import Precision
from enginewright.errors import StaleArtifact
from enginewright.layout import Layout
from enginewright.views import committed, comparison as view

SUMMARY = "put the precisions side by side - accuracy, speed, size - and against the committed figures"
EXAMPLES = """examples:
  enginewright compare                            artifacts/metrics, and the change since HEAD if there is one
  enginewright compare --rev v1.2                 the change since another revision
  enginewright compare --rev none --markdown      this machine alone, for a report
  enginewright compare ~/jetson/metrics --across  figures brought from another machine, and the change since HEAD"""
NO_REVISION = "none"
MEASURED = ("validate_accuracy", "benchmark_sustained")  # their metrics hold the target and figures of every precision
BUILDS = {precision: f"build_{precision.value}" for precision in Precision}

Metrics = Mapping[str, Any]  # of a stage, as artifacts/metrics/<stage>.json holds them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "metrics",
        nargs="?",
        type=Path,
        default=Layout().metrics,
        metavar="folder",
        help=f"the metrics (default: {Layout().metrics})",
    )
    parser.add_argument(
        "--rev",
        help=(
            f"compare with the metrics committed there; {NO_REVISION}: with nothing (default: HEAD, if it has any and"
            " they differ)"
        ),
    )
    parser.add_argument(
        "--across",
        action="store_true",
        help="show the change even if the committed figures are of another model, images or target",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object")
    how.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    found = compare(arguments.metrics, arguments.rev, arguments.across)
    if arguments.json:
        print(json.dumps(vars(found), indent=2))
    elif arguments.markdown:
        view.show_markdown(found)
    else:
        view.show(found)
    return 0


def compare(folder: Path, revision: Optional[str] = None, across: bool = False) -> Comparison:
    """Read the metrics, and those of a git revision.

    Args:
        folder: with a file for each stage.
        revision: of git; None for HEAD where that has other figures; "none" for no comparison.
        across: compare with a revision's figures of another model, other images or another target too.

    Raises:
        StaleArtifact: a file is missing or broken, or the revision has none.
    """
    try:
        return _compare(folder, revision, across)
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        where = f"{folder}, or those of {revision or 'HEAD'}," if revision != NO_REVISION else str(folder)
        what = f"{type(fault).__name__}: {fault}"
        raise StaleArtifact(
            f"the metrics in {where} are not what their stages write ({what}); write them again with `dvc repro -f`"
        ) from None


def _compare(folder: Path, revision: Optional[str], across: bool) -> Comparison:
    read = {stage: _read(folder, stage) for stage in (*MEASURED, *BUILDS.values())}
    before = _committed(revision)
    found = comparison.compare(
        _records(read),
        _records(before) if before and before != read else None,
        revision or "HEAD",
        across=across,
        also=of_other_artifacts(folder, read, BUILDS.values()),
    )
    if before == read:
        found.notes.append(f"{revision or 'HEAD'} has the same figures")
    return found


def _records(read: Mapping[str, Metrics]) -> Measured:
    """The records that metrics are of; there is none of what is empty or missing."""
    accuracy, speed = (read.get(stage) for stage in MEASURED)
    return Measured(
        committed.read_accuracy(accuracy) if accuracy else None,
        committed.read_speed(speed) if speed else None,
        {
            precision: committed.read_build(precision, build)
            for precision, stage in BUILDS.items()
            if (build := read.get(stage))
        },
    )


def _read(folder: Path, stage: str) -> Metrics:
    path = folder / f"{stage}.json"
    try:
        return _parsed(path.read_text(encoding="utf-8"), str(path), stage)
    except FileNotFoundError:
        raise StaleArtifact(f"{path} is missing; write it with `dvc repro {stage}`") from None
    except UnicodeDecodeError:
        raise StaleArtifact(
            f"{path} is no JSON (it is not UTF-8); write it again with `dvc repro -f -s {stage}`"
        ) from None
    except OSError as fault:
        raise StaleArtifact(
            f"{path} cannot be read ({fault.strerror}); give the folder of the metrics, such as {Layout().metrics}"
        ) from None


def _parsed(text: str, path: str, stage: str) -> Metrics:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as fault:
        raise StaleArtifact(
            f"{path}, line {fault.lineno}, is no JSON ({fault.msg}); write it again with `dvc repro -f -s {stage}`"
        ) from None
    if not isinstance(content, dict):
        raise StaleArtifact(f"{path} holds no metrics; write it again with `dvc repro -f -s {stage}`")
    return content


def _committed(revision: Optional[str]) -> dict[str, Metrics]:
    """The metrics that a revision has; without a revision asked for, those of HEAD, and none outside of git."""
    if revision == NO_REVISION:
        return {}
    found = {}
    for stage in (*MEASURED, *BUILDS.values()):
        path = Layout().metrics_of(stage)
        answer = _git("show", f"{revision or 'HEAD'}:./{path}")
        if answer is not None:
            found[stage] = _parsed(answer, f"{revision or 'HEAD'}:{path}", stage)
    if revision is not None and not found:
        why = (
            f"holds no {Layout().metrics}"
            if _git("rev-parse", "--verify", f"{revision}^{{commit}}")
            else "is no revision of this repository"
        )
        raise StaleArtifact(f"{revision} {why}; give a commit whose figures were committed, or --rev {NO_REVISION}")
    return found


def _git(*arguments: str) -> Optional[str]:
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout if answer.returncode == 0 else None
