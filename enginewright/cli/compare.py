"""`enginewright compare`: what the precisions give and cost, in one table, and against the committed figures."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from rich.console import Console
from rich.table import Table

from enginewright import registry
from enginewright.benchmark.int8_speed import slower_under_load
from enginewright.cli.records import left_out, of_other_artifacts, sift
from enginewright.config import Precision
from enginewright.errors import StaleArtifact
from enginewright.layout import Layout
from enginewright.manifest import MODEL_SHA256
from enginewright.results import STANDS_IN, EngineVerdict, GateRecord, Outcome
from enginewright.tasks import get_task
from enginewright.tasks.base import AGREEMENT

SUMMARY = "put the precisions side by side - accuracy, speed, size - and against the committed figures"
EXAMPLES = """examples:
  enginewright compare                            artifacts/metrics, and the change since HEAD if there is one
  enginewright compare --rev v1.2                 the change since another revision
  enginewright compare --rev none --markdown      this machine alone, for a report
  enginewright compare ~/jetson/metrics --across  figures brought from another machine, and the change since HEAD"""
NO_REVISION = "none"
RATE = ".4g"  # below 1000; whole numbers above
PRECISIONS = tuple(precision.value for precision in Precision)
MEASURED = ("validate_accuracy", "benchmark_sustained")  # their metrics hold the target and figures of every precision
BUILDS = tuple(f"build_{precision}" for precision in PRECISIONS)
TASKS = {task.metric: task for task in map(get_task, registry.TASKS.names())}  # by what their metrics name

Metrics = Mapping[str, Mapping[str, Any]]  # stage -> what it wrote to artifacts/metrics/<stage>.json


@dataclass(frozen=True)
class Figure:
    """A row of the table: `key` of a stage's metrics of each precision, a path with dots; `{p}` stands for the
    precision.
    """

    id: str  # in --json
    name: str
    stage: str
    key: str
    form: str
    change: str = "relative"  # to the committed figure: "relative", "absolute", or "" where it says nothing
    scale: float = 1.0


def _of_task(figure: str, title: str) -> tuple[Figure, Figure]:
    difference = f"{figure}_difference"
    return (
        Figure(figure, title, "validate_accuracy", f"{{p}}.{figure}", ".4f", "absolute"),
        Figure(difference, f"{title} - fp32's (pp)", "validate_accuracy", f"{{p}}.{difference}", "+.2f", "", 100.0),
    )


FIGURES = (
    *(figure for task in TASKS.values() for figure in _of_task(task.metric, task.title)),
    Figure("agreement", "agreement with fp32", "validate_accuracy", "{p}.agreement", ".4f", "absolute"),
    Figure("sqnr_db", "SQNR (dB)", "validate_accuracy", "{p}.sqnr_db", ".1f", "absolute"),
    Figure(
        "throughput_images_per_s",
        "images/s (offline)",
        "benchmark_sustained",
        "{p}.offline.throughput_images_per_s",
        RATE,
    ),
    Figure(
        "throughput_to_fp32", "images/s / fp32's", "benchmark_sustained", "ratio.offline.{p}_to_fp32", ".2f", "absolute"
    ),
    Figure(
        "queries_per_s_server", "queries/s (server)", "benchmark_sustained", "{p}.server.highest_queries_per_s", RATE
    ),
    Figure("latency_ms_p50", "latency p50 (ms)", "benchmark_sustained", "{p}.single_stream.latency_ms_p50", ".3f"),
    Figure("latency_ms_p99", "latency p99 (ms)", "benchmark_sustained", "{p}.single_stream.latency_ms_p99", ".3f"),
    Figure(
        "latency_ms_p99_9", "latency p99.9 (ms)", "benchmark_sustained", "{p}.single_stream.latency_ms_p99_9", ".3f"
    ),
    Figure("device_ms_p50", "device p50 (ms)", "benchmark_sustained", "{p}.single_stream.device_ms_p50", ".3f"),
    Figure("last_to_first", "last / first minute", "benchmark_sustained", "{p}.offline.last_to_first", ".3f", ""),
    Figure("engine_mib", "engine (MiB)", "build_{p}", "size_mib", ".2f"),
    Figure("int8_share", "layers in INT8 (%)", "build_{p}", "int8_share", ".0f", "absolute", 100.0),
    Figure("build_seconds", "build (s)", "build_{p}", "seconds", ".2f", ""),
)


@dataclass
class Comparison:
    """All that is printed, JSON-ready by `vars`."""

    figures: dict[str, dict[str, Optional[float]]]  # id -> precision -> value
    interval: dict[str, tuple[float, float]]  # precision -> of the difference with FP32 in the task's figure
    target: dict[str, str]
    notes: list[str]
    gate: list[str]
    revision: Optional[str] = None
    revision_figures: dict[str, dict[str, Optional[float]]] = field(default_factory=dict)


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
    comparison = compare(arguments.metrics, arguments.rev, arguments.across)
    if arguments.json:
        print(json.dumps(vars(comparison), indent=2))
    elif arguments.markdown:
        _print_markdown(comparison)
    else:
        _print(comparison)
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
    read = {stage: _read(folder, stage) for stage in (*MEASURED, *BUILDS)}
    accuracy, benchmark = read["validate_accuracy"], read["benchmark_sustained"]
    here, reasons = sift(read, accuracy)
    target = dict(accuracy.get("target", benchmark.get("target", {})))
    comparison = Comparison(_figures(here), dict(_intervals(accuracy)), target, list(_notes(here)), _gate(accuracy))
    if accuracy and MODEL_SHA256 not in accuracy:
        comparison.notes.append(
            "validate_accuracy does not say of which model and images it is, so the rest may be of others; run `dvc"
            " repro`"
        )
    comparison.notes += (f"{text}; run `dvc repro` to measure all of one" for text in left_out(reasons, ""))
    comparison.notes += of_other_artifacts(folder, read, BUILDS)
    committed = _committed(revision)
    name = revision or "HEAD"
    if committed == read:
        comparison.notes.append(f"{name} has the same figures")
    elif committed:
        same, reasons = sift(committed, accuracy)
        shown = committed if across else same
        comparison.revision, comparison.revision_figures = (name, _figures(shown)) if shown else (None, {})
        comparison.notes += _against(name, reasons, across)
    return comparison


def _against(revision: str, reasons: Mapping[str, str], across: bool) -> Iterator[str]:
    """Whether the figures of a revision are of the same model, images and target."""
    if not reasons:
        yield f"figures of {revision} are of the same model, images and target"
    elif across:
        for reason in dict.fromkeys(reasons.values()):
            stages = ", ".join(stage for stage, why in reasons.items() if why == reason)
            yield f"figures of {revision} are of another record ({reason}): {stages}"
    else:
        for text in left_out(reasons, f" of {revision}"):
            yield f"{text}; --across shows the change all the same"


def _read(folder: Path, stage: str) -> Mapping[str, Any]:
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


def _parsed(text: str, path: str, stage: str) -> Mapping[str, Any]:
    try:
        metrics = json.loads(text)
    except json.JSONDecodeError as fault:
        raise StaleArtifact(
            f"{path}, line {fault.lineno}, is no JSON ({fault.msg}); write it again with `dvc repro -f -s {stage}`"
        ) from None
    if not isinstance(metrics, dict):
        raise StaleArtifact(f"{path} holds no metrics; write it again with `dvc repro -f -s {stage}`")
    return metrics


def _committed(revision: Optional[str]) -> dict[str, Mapping[str, Any]]:
    """The metrics that a revision has; without a revision asked for, those of HEAD, and none outside of git."""
    if revision == NO_REVISION:
        return {}
    found = {}
    for stage in (*MEASURED, *BUILDS):
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


def _figures(metrics: Metrics) -> dict[str, dict[str, Optional[float]]]:
    """Id -> precision -> value; figures that no precision has are left out."""
    found = {}
    for figure in FIGURES:
        values = {precision: _value(metrics, figure, precision) for precision in PRECISIONS}
        if any(value is not None for value in values.values()):
            found[figure.id] = values
    return found


def _value(metrics: Metrics, figure: Figure, precision: str) -> Optional[float]:
    value: Any = metrics.get(figure.stage.format(p=precision), {})
    for key in figure.key.format(p=precision).split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) * figure.scale if isinstance(value, (int, float)) and math.isfinite(value) else None


def _intervals(accuracy: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    for precision in PRECISIONS:
        figures = accuracy.get(precision, {})
        for figure in TASKS:
            if f"{figure}_difference_low" in figures:
                yield (
                    precision,
                    (
                        float(figures[f"{figure}_difference_low"]),
                        float(figures[f"{figure}_difference_high"]),
                    ),
                )


def _gate(accuracy: Mapping[str, Any]) -> list[str]:
    """The verdicts in words; empty where the gate did not judge."""
    gate = accuracy.get("gate")
    if not gate:
        return []
    figure = (
        "agreement with fp32"
        if gate["figure"] == AGREEMENT
        else TASKS[gate["figure"]].title
        if gate["figure"] in TASKS
        else gate["figure"]
    )
    record = GateRecord.from_json(gate)
    return [_verdict(precision.value, found, figure, record.mode) for precision, found in record.engines.items()]


def _verdict(precision: str, found: EngineVerdict, figure: str, mode: str) -> str:
    says = {Outcome.passed: "passes", Outcome.failed: "FAILS", Outcome.undecided: "is UNDECIDED"}[found.outcome]
    interval = "" if found.low is None else f" ({found.low:.4f} to {found.high:.4f})"
    text = f"{precision} {says}: {figure} is {found.value:.4f}{interval}, the bound {found.bound:.4f} ({mode})"
    if (noise := found.noise) is not None:
        sqnr = "of too few images" if noise.low_db is None else f"{noise.low_db:.1f} to {noise.high_db:.1f} dB"
        text += f"; SQNR {sqnr}, the floor {noise.minimum_db:.1f} dB"
        text += "" if noise.outcome is Outcome.passed else f" ({noise.outcome.value.upper()})"
    return text + ("" if found.images_to_decide is None else f"; about {found.images_to_decide:,} images would decide")


def _notes(metrics: Metrics) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    accuracy, benchmark = metrics["validate_accuracy"], metrics.get("benchmark_sustained", {})
    if "settings" in benchmark:
        load, when = benchmark["settings"], benchmark.get("measured_at", "an unknown time")
        scenarios = ", ".join(load["scenarios"])
        yield (
            f"load: {scenarios} (offline in batches of {load['batch_size']}), {load['seconds']:g} s for each precision"
            f" and scenario; measured at {when}"
        )
    if "images" in accuracy:
        judged = accuracy.get("gate", {}).get("figure", AGREEMENT)
        own = judged in TASKS and TASKS[judged].every_output
        stands_in = (
            f"the gate judges the {TASKS[judged].title}"
            if own
            else "agreement with fp32 stands in for the figure of the task"
        )
        labels = "" if accuracy.get("labels", True) else f" without labels: {stands_in}"
        confidence = (
            f"; {accuracy['confidence']:.0%} intervals of paired answers, in percentage points"
            if "confidence" in accuracy and not labels
            else ""
        )
        yield f"accuracy: {accuracy['images']} images{labels}{confidence}"
    for precision in PRECISIONS:
        yield from _notes_of(precision, accuracy.get(precision, {}), benchmark.get(precision, {}))
        yield from (f"{precision}: {finding}" for finding in metrics.get(f"build_{precision}", {}).get("findings", ()))
    yield from (f"not judged: {why}" for why in accuracy.get("not_judged", {}).values())
    yield from slower_under_load(benchmark)
    if benchmark.get("complete") is False:
        yield "the load was interrupted: speed covers a part of it"


def _notes_of(precision: str, accuracy: Mapping[str, Any], benchmark: Mapping[str, Any]) -> Iterator[str]:
    from enginewright.views.benchmark import DISTURBING_CORES

    if runtime := accuracy.get(STANDS_IN):
        yield f"accuracy of {precision} is what {runtime} computes; the target has no such engine"
    if benchmark and accuracy and accuracy.get("engine_sha256") != benchmark.get("engine_sha256"):
        yield f"accuracy and speed of {precision} are of two different engines; run `dvc repro`"
    if accuracy.get("identical_to_fp32"):
        yield f"{precision} answers bit for bit as fp32 does: the runtime may have built the same engine"
    for scenario, load in benchmark.items():
        if not isinstance(load, dict):
            continue
        busy = load.get("other_cores_busy_mean", 0.0)
        if busy > DISTURBING_CORES:
            yield f"speed of {precision} ({scenario}) is disturbed: other processes kept {busy:.1f} cores busy"
        if load.get("stable") is False:
            yield f"{precision} was not stable ({scenario}): {load['stability']}"
        if load.get("other_processes", "none") != "none":
            yield f"others were on the device under {precision} ({scenario}): {load['other_processes']}"
        if load.get("throttled", "no") != "no":
            yield f"the device throttled under {precision} ({scenario}): {load['throttled']}"


def _rows(comparison: Comparison) -> Iterator[list[str]]:
    """Cells as text: the name, then a value a precision, its change in brackets."""
    for figure in FIGURES:
        values = comparison.figures.get(figure.id)
        if values is None:
            continue
        before = comparison.revision_figures.get(figure.id, {})
        yield [figure.name, *(_cell(figure, value, before.get(precision)) for precision, value in values.items())]
        if figure.id.removesuffix("_difference") in TASKS and figure.id not in TASKS:
            interval = comparison.interval
            yield [
                "  interval (pp)",
                *(
                    f"{100 * interval[name][0]:+.2f} to {100 * interval[name][1]:+.2f}" if name in interval else "-"
                    for name in PRECISIONS
                ),
            ]


def _cell(figure: Figure, value: Optional[float], before: Optional[float]) -> str:
    if value is None:
        return "-"
    shown = format(value, figure.form if figure.form != RATE or value < 1000 else ",.0f")
    if before is None or not figure.change:
        return shown
    if value == before:
        return f"{shown} (=)"
    if figure.change == "absolute":
        return f"{shown} ({_signed(value - before, figure.form)})"
    return f"{shown} ({value / before - 1:+.1%})" if before else shown


def _signed(difference: float, form: str) -> str:
    text = format(difference, "+" + form.lstrip("+"))
    return "=" if float(text) == 0 else text


def _title(comparison: Comparison) -> str:
    target = comparison.target
    rest = [f"{name} {value}" for name, value in target.items() if name not in ("device", "runtime", "runtime_version")]
    return ", ".join(
        [
            target.get("device", "unknown target"),
            f"{target.get('runtime', '')} {target.get('runtime_version', '')}".strip(),
            *rest,
        ]
    )


def _closing(comparison: Comparison) -> Iterator[str]:
    if comparison.revision:
        yield f"in brackets: the change since {comparison.revision}"
    yield from comparison.notes
    yield from comparison.gate


def _print(comparison: Comparison) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(_title(comparison))
    table = Table()
    table.add_column("")
    for precision in PRECISIONS:
        table.add_column(precision, justify="right")
    for row in _rows(comparison):
        table.add_row(*row)
    console.print(table)
    for line in _closing(comparison):
        console.print(line)


def _print_markdown(comparison: Comparison) -> None:
    print(f"**{_title(comparison)}**\n")
    print("| | " + " | ".join(PRECISIONS) + " |")
    print("|---|" + "---:|" * len(PRECISIONS))
    for name, *cells in _rows(comparison):
        print(f"| {name.strip()} | " + " | ".join(cells) + " |")
    print()
    for line in _closing(comparison):
        print(f"- {line}")
