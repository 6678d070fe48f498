"""analyze_sensitivity in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from enginewright.results.layers import SensitivityResult
    from enginewright.sensitivity.analysis import Block
    from enginewright.tasks.base import Task

SHOWN = 10
COLUMNS = {
    "layers": "layer",
    "share_of_noise": "share of noise",
    "share_of_traffic": "share of values moved",
    "alone_sqnr_db": "SQNR, it alone in INT8 (dB)",
    "without_sqnr_db": "SQNR, it alone in float (dB)",
    "alone_agreement": "agreement, it alone in INT8",
}


def track(blocks: Sequence[Block]) -> Iterable[Block]:
    """Pass blocks of layers on and show how far it is."""
    from rich.console import Console
    from rich.progress import track as progress

    return progress(blocks, "layers in INT8 and in float", console=Console(stderr=True))


def say(sentence: str) -> None:
    """Print at once, also into a pipe: how long it will take is of no use afterwards."""
    print(sentence, flush=True)


def show(table: pd.DataFrame, found: SensitivityResult, task: Task) -> None:
    """Print the first rows of a ranking, and what a rule of the task keeps in float."""
    from rich.console import Console
    from rich.table import Table

    title = f"What INT8 costs, layer by layer, on {found.images} images (the first {SHOWN})"
    shown = Table(title=title, title_justify="left")
    for name in COLUMNS.values():
        shown.add_column(name, justify="left" if name == "layer" else "right")
    for row in table.head(SHOWN).to_dict(orient="records"):
        shown.add_row(*(_cell(row.get(name)) for name in COLUMNS))
    console = Console()
    console.print(shown)
    if found.decoding is not None:
        metric = task.metric if task.metric in found.int8 else task.without_targets
        console.print(found.decoding.says(metric, found.int8[metric]), highlight=False, soft_wrap=True)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
