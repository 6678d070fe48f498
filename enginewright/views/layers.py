"""profile_layers in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from enginewright.benchmark.layers import SIDE_BY_SIDE, SLOWEST, TOP, label
from enginewright.results.layers import ProfileResult

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def show(
    tables: Mapping[str, pd.DataFrame], found: Optional[ProfileResult] = None, console: Optional[Console] = None
) -> None:
    """Print the slowest layers of each engine, the slowest blocks side by side and the findings."""
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    console, comparison = console or Console(stderr=True), tables[SIDE_BY_SIDE]

    def titled(title: str, *columns: str) -> Table:
        shown = Table(title=title, title_justify="left")
        for column in columns:  # names are folded, not cut: their ends tell them apart
            shown.add_column(
                column,
                overflow="fold",
                justify="left" if column in ("layer", "block", "precision", "verdict") else "right",
            )
        return shown

    for precision, layers in tables[SLOWEST].groupby("precision", sort=False):
        shown = titled(f"{precision}: the {len(layers)} slowest layers", "rank", "layer", "ms", "share", "precision")
        for _, row in layers.iterrows():
            shown.add_row(
                str(row["rank"]),
                str(row["label"]),
                f"{row['ms']:.4f}",
                f"{row['share']:.1%}",
                str(row["layer_precision"]),
            )
        console.print(shown)
    times = [str(column) for column in comparison.columns if str(column).endswith("_ms")]
    engines = [column[: -len("_ms")] for column in times]
    shown = titled("Precisions side by side: the slowest blocks, ms", "block", *engines, "int8 as", "gain", "verdict")
    for _, row in comparison.head(TOP).iterrows():
        cells = ["" if pd.isna(row[column]) else f"{row[column]:.4f}" for column in times]
        gain = "" if pd.isna(row["gain"]) else f"{row['gain']:.2f}x"
        shown.add_row(label([str(row["block"])]), *cells, str(row.get("int8_precision", "")), gain, str(row["verdict"]))
    console.print(shown)
    if found is not None and found.shape is not None:
        console.print(f"Fed with batches of {found.batch_size} of {found.shape.says()}.", highlight=False)
    for finding in () if found is None else found.findings:
        console.print(f"Finding: {finding}", highlight=False)
