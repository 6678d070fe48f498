"""Which layers stay in FP16: those of a search, or those that a file names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginewright.accuracy.gate import name_of
from enginewright.calibration.mixture import FloatLayer, Mixture
from enginewright.config import SearchMixed
from enginewright.results.accuracy import Verdict
from enginewright.results.layers import MixtureResult
from enginewright.results.verdicts import Outcome
from enginewright.sensitivity.analysis import SEPARATOR, ranked, traffic_of
from enginewright.sensitivity.budget import Budget
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.search import Limits, Search, most_kept, search, table_rows
from enginewright.sensitivity.variants import Variants
from enginewright.tasks.base import Figures

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Choice:
    """A mixture, and how it was found."""

    mixture: Mixture
    search: Search
    result: MixtureResult
    warning: str  # why the choice is less sure than it looks; empty if it is not

    def trials(self) -> pd.DataFrame:
        """A row for each mixture that was measured."""
        import pandas as pd

        return pd.DataFrame(table_rows(self.search, self.result.layers, self.result.figure))


def choose(
    variants: Variants,
    rehearsal: Rehearsal,
    asked: Mixture,
    ranking: pd.DataFrame,
    settings: SearchMixed,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Choice:
    """Search for the fewest layers in FP16 that pass the rehearsed gate, or judge the layers that were asked for.

    Args:
        variants: of the model.
        rehearsal: the gate, as on the validation images.
        asked: of the file `search_mixed.layers`.
        ranking: of analyze_sensitivity.
        settings: `search_mixed`.
        say: is told how long it may take before it does.

    Raises:
        ModelError: a layer that was asked for is not in the model, or a pattern fits none.
    """
    equal = rehearsal.verdict(variants.task, variants.equal(), variants.evaluated)
    operators = tuple(dict.fromkeys((*asked.operators, *settings.float_operators)))

    def holds(figures: Figures) -> bool:
        return rehearsal.holds(figures, decidable=equal.passed)

    if asked.layers is None:
        budget = Budget("search_mixed", settings.evaluations, settings.minutes)
        timed = _Timed(variants, operators, budget, say)
        most = most_kept(len(variants.layers), settings.minimum_int8_share)
        found = search(
            timed.figures,
            holds,
            ranked(ranking, settings.spare),
            Limits(settings.evaluations, most, lambda: budget.allows(timed.each)),
            variants.task.noise_of,
        )
        mixture = Mixture(tuple(FloatLayer(name, _reason(name, ranking)) for name in found.chosen), operators)
    else:
        mixture = replace(asked.resolved(_loaded(variants.path), settings.layers), operators=operators)
        figures = variants.figures(mixture.names, operators)
        counted = tuple(name for name in mixture.names if name in variants.layers)  # the others are in float anyway
        found = Search(counted, noise=variants.task.noise_of)
        found.holds = found.add("pinned", counted, figures, holds(figures)).holds
    last = found.last.figures
    result = MixtureResult(
        holds=found.holds,
        decidable=equal.passed,
        verdict=Outcome(last["verdict"]),
        figure=last["figure"],
        value=last["value"],
        low=last["low"],
        bound=last["bound"],
        validation_images=rehearsal.images,
        images=len(variants.images),
        layers=len(variants.layers),
        float_layers=len(found.chosen),
        int8_share=1 - len(found.chosen) / len(variants.layers) if variants.layers else 0.0,
        float_traffic=traffic_of(ranking, found.chosen),
        evaluations=len(found.trials),
        pinned=asked.layers is not None,
        cut_by_minutes=settings.minutes if found.late else None,
    )
    return Choice(mixture, found, result, "" if equal.passed else _warning(variants, equal, rehearsal))


class _Timed:
    """Measures mixtures, and says after the first one how long the others may take."""

    def __init__(
        self, variants: Variants, operators: Sequence[str], budget: Budget, say: Callable[[str], None]
    ) -> None:
        self._variants, self._operators, self._budget, self._say = variants, tuple(operators), budget, say
        self.each = 0.0  # seconds of the slowest so far

    def figures(self, kept: Sequence[str]) -> Figures:
        """The metrics of a mixture."""
        first, start = self.each == 0.0, self._budget.clock()
        found = self._variants.figures(kept, self._operators)
        self.each = max(self.each, self._budget.clock() - start, self._variants.seconds)
        if first:
            left = max(self._budget.evaluations - 1, 0)
            self._say(self._budget.plan(left, len(self._variants.images), self.each, at_most=True))
        return found


def _loaded(path: Path) -> Any:
    from enginewright.graph import stored

    return stored.read(path)


def _reason(name: str, ranking: pd.DataFrame) -> str:
    """Why a layer stays in float, in words that stand beside its name."""
    row: Any = next(row for row in ranking.to_dict(orient="records") if name in str(row["layers"]).split(SEPARATOR))
    together = f" with the {row['count'] - 1} beside it" if row["count"] > 1 else ""
    alone = ""
    if "alone_sqnr_db" in row:
        alone = f"; with it alone in INT8 the SQNR is {row['alone_sqnr_db']:.1f} dB"
    elif "alone_agreement" in row:
        alone = f"; with it alone in INT8 the agreement with fp32 is {row['alone_agreement']:.4f}"
    noise, moved = (
        f"{row['share_of_noise']:.1%} of the noise that layers add one by one",
        f"{row['share_of_traffic']:.1%} of the values moved",
    )
    return f"rank {row['rank']} of {len(ranking)}{together}: {noise}, {moved}{alone}"


def _warning(variants: Variants, equal: Verdict, rehearsal: Rehearsal) -> str:
    """Few images: no engine can pass on them."""
    needed = max((held.needed or 0 for held in equal.held), default=0)
    ask = f"raise data.validation_images to {needed:,} at least, or move the bound" if needed else "move the bound"
    return (
        f"the mixture was searched by point values. On {rehearsal.images} validation images even an"
        f" engine that answers as fp32 does is undecided ({name_of(variants.task, equal.metric.figure)}, bound"
        f" {equal.metric.bound:.4f}); {ask}"
    )
