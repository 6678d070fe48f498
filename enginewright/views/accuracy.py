"""validate_accuracy in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from enginewright.accuracy import gate
from enginewright.config import Precision
from enginewright.data.classes import BY_NAME
from enginewright.results.accuracy import AccuracyResult, Difference
from enginewright.tasks.base import Task

DIGEST = 12  # hex digits of a sha256 that people see


def show(task: Task, result: AccuracyResult) -> None:
    """Print the precisions side by side, the chain of hashes behind them, and the verdicts."""
    from rich.console import Console
    from rich.table import Table

    console, engines = Console(), result.engines
    table = Table(title=f"Accuracy on {result.images} images, {result.origin.machine}", title_justify="left")
    table.add_column("")
    for precision in engines:
        table.add_column(precision.value, justify="right")
    for key, name, form, of_targets in task.shown:
        if result.labels or not of_targets:
            cells = (one.figures.get(key) for one in engines.values())
            table.add_row(name, *("-" if value is None else format(value, form) for value in cells))
    if result.labels:
        name = f"{task.title} difference, {result.confidence:.0%} interval"
        table.add_row(name, *(_difference(one.difference) for one in engines.values()))
    table.add_row("engine sha256", *(one.engine_sha256[:DIGEST] for one in engines.values()))
    console.print(table)
    for precision, one in engines.items():
        files = ", ".join(f"{name} {digest[:DIGEST]}" for name, digest in one.made_from.items())
        console.print(f"{precision.value} was made from {files}", highlight=False)
    for line in (*_notes(task, result), *_verdicts(task, result)):
        console.print(line, highlight=False, soft_wrap=True)


def _notes(task: Task, result: AccuracyResult) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    if result.shape is not None:
        yield f"Fed with {result.shape.says()}."
    if result.class_order == BY_NAME:
        yield f"The model's classes are taken to be in the order of {BY_NAME}; data.classes can state another one."
    for why in result.not_judged.values():
        yield f"Not judged: {why}"
    if runtime := result.engines[Precision.fp32].stands_in:
        yield f"FP32 is what {runtime} computes; it is not an engine of this target."
    if not result.labels:
        judges = f"the gate judges the {gate.name_of(task, task.without_targets)}."
        absent = "" if task.every_output else f"there is no {task.title}, and "
        yield f"The validation images have no targets for this task: {absent}{judges}"
    if result.origin.target["runtime"] == "null":
        yield "The null runtime computes nothing: these are the figures of zeros, whatever the model."


def _verdicts(task: Task, result: AccuracyResult) -> Iterator[str]:
    verdicts = {} if result.gate is None else result.gate.engines
    for precision, verdict in verdicts.items():
        yield f"Gate {verdict.outcome.value.upper()}: {gate.sentence(task, verdict, precision.value)}"
    for precision, one in result.engines.items():
        yield from (f"Finding about {precision.value}: {finding}" for finding in one.findings)


def _difference(found: Optional[Difference]) -> str:
    if found is None:
        return "-"
    interval = "" if found.low is None else f" ({found.low:+.4f} to {found.high:+.4f})"
    return f"{found.value:+.4f}{interval}"
