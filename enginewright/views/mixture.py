"""search_mixed in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from enginewright.sensitivity.choice import Choice


def say(sentence: str) -> None:
    """Print at once, also into a pipe: how long it will take is of no use afterwards."""
    print(sentence, flush=True)


def show(choice: Choice) -> None:
    """Print the mixture that was chosen, and how sure the choice is."""
    from rich.console import Console

    console = Console()
    found, first = choice.result, choice.search.trials[0]
    layers, name = found.layers, found.figure
    if first.step == "int8":
        console.print(
            f"{name} on {found.images} images, all {layers} layers in INT8: {first.figures[name]:.4f}",
            highlight=False,
        )
    chosen, moved = f"{found.float_layers} of {layers}", f"{found.float_traffic:.0%} of the values moved"
    value = (
        f"{found.value:.4f} (lower limit on {found.validation_images} images {found.low:.4f}), bound {found.bound:.4f}"
    )
    console.print(
        f"with {chosen} in float ({moved}): {value}, {found.verdict.value}, after {found.evaluations} evaluations",
        highlight=False,
    )
    _remedy(console, choice)
    for layer in choice.search.chosen:
        console.print(f"  {layer}", highlight=False)
    if choice.warning:
        print(f"search_mixed: {choice.warning}", file=sys.stderr, flush=True)


def _remedy(console: Console, choice: Choice) -> None:
    if not choice.search.holds:
        console.print(
            "No mixture that was tried passes the gate; see trials.csv beside layers.yaml, then lower"
            " search_mixed.minimum_int8_share, raise search_mixed.evaluations, or choose another calibration"
        )
    elif choice.search.exhausted:
        setting = "minutes" if choice.search.late else "evaluations"
        console.print(f"The budget search_mixed.{setting} ended the search: a smaller mixture may hold")
