"""pareto in the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional

from enginewright.pareto import NOT_CALIBRATED, metrics
from enginewright.results import Outcome

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

MARKS = {Outcome.passed.value: "", Outcome.undecided.value: "UNDECIDED", Outcome.failed.value: "FAILED"}


def show(frame: pd.DataFrame, console: Optional[Console] = None) -> None:
    """Print the table and the choice."""
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    first = frame.iloc[0]
    calibrated = next((name for name in frame["calibration"] if name != NOT_CALIBRATED), NOT_CALIBRATED)
    console.print(
        f"{first['figure']} against throughput ({first['scenario']}); gate {_number(first['bound'], '.4f')};"
        f" calibration: {calibrated}",
        highlight=False,
    )
    rich = Table()
    rich.add_column("")
    for name in ("images/s", "to fp32", first["figure"], "interval", ""):
        rich.add_column(name, justify="right")
    for row in frame.to_dict(orient="records"):
        mark = " ".join(
            word for word, said in ((MARKS[row["verdict"]], not row["holds"]), ("front", row["front"])) if said
        )
        interval = f"{row['low']:.4f} to {row['high']:.4f}" if row["low"] < row["high"] else ""
        speed = f"{row['throughput_images_per_s']:,.0f}"
        rich.add_row(row["precision"], speed, _number(row["speedup"], ".2f"), f"{row['value']:.4f}", interval, mark)
    console.print(rich)
    chosen = metrics(frame)
    if "value" in chosen:
        speedup = f": {chosen['speedup']:.2f} x FP32" if "speedup" in chosen else ""
        console.print(
            f"The fastest engine that passes the gate is {chosen['fastest_that_holds']}{speedup}", highlight=False
        )
    else:
        console.print("No engine passes the gate")
    for finding in chosen["findings"]:
        console.print(f"Finding: {finding}", highlight=False)
    undecided = [str(name) for name in frame[frame["verdict"] == Outcome.undecided.value]["precision"]]
    if undecided:
        console.print(
            f"Undecided, and so not chosen: {', '.join(undecided)}; validate_accuracy says how many images would"
            " decide",
            highlight=False,
        )


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
