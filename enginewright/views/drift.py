"""check_drift in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from enginewright.drift import Report, verdict

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

MOST_SHOWN = 10


def show(report: Report, console: Optional[Console] = None) -> None:
    """Print the drifted tensors and the verdict."""
    if report.table is None:
        print(f"check_drift: {report.result.verdict}; then run `dvc repro -f -s check_drift`")
    else:
        show_table(report.table, console)


def show_table(table: pd.DataFrame, console: Optional[Console] = None) -> None:
    """Print the drifted tensors of a comparison and the verdict."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    drifted = table[table["drifted"].astype(bool)]
    if len(drifted):
        shown = Table(title="check_drift: calibration against validation", title_style="yellow")
        for name in ("Tensor", "What differs"):
            shown.add_column(name, overflow="fold")
        for tensor, why in _named(drifted):
            shown.add_row(escape(tensor), escape(why))
        console.print(shown)
    console.print(
        f"check_drift: {verdict(table)}",
        style="yellow" if len(drifted) else "green",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _named(drifted: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for _, row in drifted.head(MOST_SHOWN).iterrows():
        yield str(row["tensor"]), str(row["why"])
    if len(drifted) > MOST_SHOWN:
        yield f"and {len(drifted) - MOST_SHOWN} more", "in drift.csv"
