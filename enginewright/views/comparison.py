"""`enginewright compare` in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from enginewright.comparison import FIGURES, PRECISIONS, RATE, TASKS, Comparison, Figure


def show(comparison: Comparison) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

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


def show_markdown(comparison: Comparison) -> None:
    """Print a Markdown table."""
    print(f"**{_title(comparison)}**\n")
    print("| | " + " | ".join(PRECISIONS) + " |")
    print("|---|" + "---:|" * len(PRECISIONS))
    for name, *cells in _rows(comparison):
        print(f"| {name.strip()} | " + " | ".join(cells) + " |")
    print()
    for line in _closing(comparison):
        print(f"- {line}")


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
