"""`enginewright calibrations` in the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from enginewright.grid import BEST, Grid

if TYPE_CHECKING:
    import pandas as pd


def show(grid: Grid) -> None:
    """Print the table."""
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


def show_markdown(grid: Grid) -> None:
    """Print a Markdown table."""
    headers = _headers(grid)
    print(f"**{_title(grid)}**\n")
    print("| " + " | ".join(headers) + " |")
    print("|" + "---|" * len(grid.choice) + "---:|" * (len(headers) - len(grid.choice)))
    for cells in _cells(grid):
        print("| " + " | ".join(cells) + " |")
    print()
    for line in grid.notes:
        print(f"- {line}")


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
