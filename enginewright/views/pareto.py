"""pareto in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from enginewright.pareto import NOT_CALIBRATED
from enginewright.results.pareto import ParetoResult, ParetoRow
from enginewright.results.verdicts import Outcome

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {Outcome.passed: "", Outcome.undecided: "UNDECIDED", Outcome.failed: "FAILED"}


def show(result: ParetoResult, console: Optional[Console] = None) -> None:
    """Print the table and the choice."""
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    first = result.rows[0]
    calibrated = next((row.calibration for row in result.rows if row.calibration != NOT_CALIBRATED), NOT_CALIBRATED)
    console.print(
        f"{first.figure} against throughput ({first.scenario}); gate {_number(first.bound, '.4f')};"
        f" calibration: {calibrated}",
        highlight=False,
    )
    table = Table()
    table.add_column("")
    for name in ("images/s", "to fp32", first.figure, "interval", ""):
        table.add_column(name, justify="right")
    for row in result.rows:
        table.add_row(*_cells(row))
    console.print(table)
    chosen = result.chosen
    if chosen is None:
        console.print("No engine passes the gate")
    else:
        speedup = "" if chosen.speedup is None else f": {chosen.speedup:.2f} x FP32"
        console.print(f"The fastest engine that passes the gate is {chosen.precision.value}{speedup}", highlight=False)
    for finding in result.findings:
        console.print(f"Finding: {finding}", highlight=False)
    if undecided := [precision.value for precision in result.undecided]:
        console.print(
            f"Undecided, and so not chosen: {', '.join(undecided)}; validate_accuracy says how many images would"
            " decide",
            highlight=False,
        )


def _cells(row: ParetoRow) -> tuple[str, ...]:
    mark = " ".join(word for word in (MARKS[row.verdict], "front" if row.front else "") if word)
    interval = f"{row.low:.4f} to {row.high:.4f}" if row.low < row.high else ""
    speed = f"{row.throughput_images_per_s:,.0f}"
    return row.precision.value, speed, _number(row.speedup, ".2f"), f"{row.value:.4f}", interval, mark


def _number(value: Optional[float], form: str) -> str:
    return "-" if value is None else format(value, form)
