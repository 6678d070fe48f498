"""A task: classification under the name of what it is about, with a metric of its own name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from enginewright.tasks.base import Shown
from enginewright.tasks.classification import Classification

if TYPE_CHECKING:
    import pandas as pd


class Directions(Classification):
    """The share of stripes whose direction is seen."""

    name = "directions"
    metric = "seen"
    title = "directions seen"
    shown: Sequence[Shown] = (Shown("seen", "directions seen", ".3f", of_targets=True),)

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        found = super().summary(rows, classes)
        return {("seen" if key == "top1" else key): value for key, value in found.items()}


TASK = Directions()
