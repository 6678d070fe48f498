"""Metrics and terminal table of validate_accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from enginewright.accuracy import gate
from enginewright.accuracy.gate import Verdict
from enginewright.config import Precision
from enginewright.manifest import Manifest
from enginewright.results import STANDS_IN
from enginewright.tasks.base import FP32, Evaluation, Task

DIGEST = 12  # hex digits of a sha256 that people see


def precision_metrics(
    task: Task,
    evaluations: Mapping[Precision, Evaluation],
    manifests: Mapping[Precision, Manifest],
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """Metrics nested by precision; all but FP32 hold the paired comparison with it. `evaluations` has FP32."""
    fp32 = evaluations[Precision.fp32].rows
    found = {}
    for precision, evaluation in evaluations.items():
        figures = task.summary(evaluation.rows, evaluation.classes)
        if precision is not Precision.fp32:
            figures.update(task.compare(evaluation.rows, fp32, confidence))
        found[precision.value] = {**figures, "engine_sha256": manifests[precision].sha256}
        if said := findings(manifests[precision]):
            found[precision.value]["findings"] = said
    return found


def findings(made: Manifest) -> list[str]:
    """What its build found out about an engine, such as that less than half of it runs in INT8."""
    said = made.settings.get("findings", [])
    return [str(finding) for finding in said] if isinstance(said, list) else []


def show(
    task: Task,
    metrics: Mapping[str, Any],
    manifests: Mapping[Precision, Manifest],
    verdicts: Mapping[Precision, Verdict],
) -> None:
    """Print the precisions side by side, the chain of hashes behind them, and the verdicts."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    target, labelled = metrics["target"], metrics["labels"]
    table = Table(
        title=(
            f"Accuracy on {metrics['images']} images, {target['device']}, {target['runtime']}"
            f" {target['runtime_version']}"
        ),
        title_justify="left",
    )
    table.add_column("")
    for precision in manifests:
        table.add_column(precision.value, justify="right")
    for key, name, form, of_targets in task.shown:
        if labelled or not of_targets:
            table.add_row(
                name,
                *(
                    format(metrics[precision.value][key], form) if key in metrics[precision.value] else "-"
                    for precision in manifests
                ),
            )
    if labelled:
        name = f"{task.title} difference, {metrics['confidence']:.0%} interval"
        table.add_row(
            name, *(_difference(metrics[precision.value], f"{task.metric}_difference") for precision in manifests)
        )
    table.add_row("engine sha256", *(made.sha256[:DIGEST] for made in manifests.values()))
    console.print(table)
    for precision, made in manifests.items():
        console.print(
            f"{precision.value} was made from "
            + ", ".join(f"{name} {digest[:DIGEST]}" for name, digest in made.inputs.items()),
            highlight=False,
        )
    for line in (*_notes(task, metrics), *_verdicts(task, verdicts, manifests)):
        console.print(line, highlight=False, soft_wrap=True)


def _notes(task: Task, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    for why in metrics.get("not_judged", {}).values():
        yield f"Not judged: {why}"
    if runtime := metrics[FP32].get(STANDS_IN):
        yield f"FP32 is what {runtime} computes; it is not an engine of this target."
    if not metrics["labels"]:
        judges = f"the gate judges the {gate.name_of(task, task.without_targets)}."
        absent = "" if task.every_output else f"there is no {task.title}, and "
        yield f"The validation images have no targets for this task: {absent}{judges}"
    if metrics["target"]["runtime"] == "null":
        yield "The null runtime computes nothing: these are the figures of zeros, whatever the model."


def _verdicts(
    task: Task, verdicts: Mapping[Precision, Verdict], manifests: Mapping[Precision, Manifest]
) -> Iterator[str]:
    for precision, verdict in verdicts.items():
        yield f"Gate {verdict.outcome.value.upper()}: {gate.sentence(task, verdict, precision.value)}"
    for precision, made in manifests.items():
        yield from (f"Finding about {precision.value}: {finding}" for finding in findings(made))


def _difference(figures: Mapping[str, Any], key: str) -> str:
    if key not in figures:
        return "-"
    interval = f" ({figures[f'{key}_low']:+.4f} to {figures[f'{key}_high']:+.4f})" if f"{key}_low" in figures else ""
    return f"{figures[key]:+.4f}{interval}"
