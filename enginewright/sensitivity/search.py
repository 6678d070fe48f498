"""The fewest layers left in FP16 with which INT8 passes the accuracy gate, looked for in the order of their worth
there.

First a bisection over how many of the costliest blocks stay in float, then each of these is tried in INT8 again, the
cheapest first. Every step is an evaluation on the sensitivity images; the order is fixed, so equal inputs give an equal
choice.

A few hundred images make accuracy a coarse figure, and of many mixtures some pass by luck. So a mixture that passes is
not trusted if it has more noise (`Task.noise_of`), to which every image adds, than one that failed
(docs/decisions/0014-mixed-precision.md has what that is worth on unseen images).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from enginewright.sensitivity.analysis import SEPARATOR, Block
from enginewright.tasks.base import AGREEMENT, Figures
from enginewright.tasks.metrics import noise_power

Measure = Callable[[Sequence[str]], Figures]  # layers in float -> figures
Holds = Callable[[Figures], bool]


@dataclass(frozen=True)
class Trial:
    """One mixture that was measured."""

    step: str  # "int8", "bisect", "restore"
    kept: tuple[str, ...]
    figures: Figures
    passes: bool  # the gate
    holds: bool  # it passes, and none with less noise failed


@dataclass
class Search:
    """What a search found, and how."""

    chosen: tuple[str, ...] = ()  # layers in float
    holds: bool = False  # whether the gate does with them
    exhausted: bool = False  # whether the budget ended the search before it was done
    late: bool = False  # whether it was its minutes that did
    noise: Callable[[Figures], float] = noise_power
    trials: list[Trial] = field(default_factory=list)

    def add(self, step: str, kept: tuple[str, ...], figures: Figures, passes: bool) -> Trial:
        """Judge a mixture in the light of those before it, and keep it among them."""
        own, failed = self.noise(figures), [self.noise(trial.figures) for trial in self.trials if not trial.passes]
        self.trials.append(Trial(step, kept, figures, passes, passes and all(own <= other for other in failed)))
        return self.trials[-1]

    @property
    def last(self) -> Trial:
        """The trial of the layers that were chosen."""
        return next(trial for trial in reversed(self.trials) if trial.kept == self.chosen)


class _Budget(Exception):
    """No evaluation is left."""


@dataclass(frozen=True)
class Limits:
    """What a search may spend, and how many layers it may leave in float."""

    evaluations: int  # how often a mixture may be measured
    layers: int
    in_time: Callable[[], bool] = lambda: True  # whether there is time for one more


def search(
    measure: Measure,
    holds: Holds,
    ranking: Sequence[Block],
    limits: Limits,
    noise: Callable[[Figures], float] = noise_power,
) -> Search:
    """Look for a small set of layers to leave in float so that the gate holds.

    Args:
        measure: runs one mixture.
        holds: the gate.
        ranking: blocks of layers, first those that are worth most in float.
        limits: of evaluations, layers and time; all layers in INT8 are measured whatever the time.
        noise: of the task.

    Returns:
        The smallest mixture that holds of those tried; if none does, the largest allowed one, with `holds` false.
    """
    found = Search(noise=noise)

    def attempt(step: str, blocks: Sequence[Block]) -> bool:
        if len(found.trials) >= limits.evaluations:
            raise _Budget
        if found.trials and not limits.in_time():
            found.late = True
            raise _Budget
        kept = tuple(layer for block in blocks for layer in block)
        figures = measure(kept)
        return found.add(step, kept, figures, holds(figures)).holds

    try:
        kept = _bisect(attempt, ranking, limits.layers, found)
        _restore(attempt, kept, found)
    except _Budget:
        found.exhausted = True
    if not found.holds and found.trials:
        found.chosen = max(found.trials, key=lambda trial: len(trial.kept)).kept
    return found


def most_kept(layers: int, minimum_int8_share: float) -> int:
    """How many layers may stay in float so that at least this share runs in INT8; 0.8 of 10 leaves 2, though 10 * (1 -
    0.8) is under 2.
    """
    return layers - math.ceil(minimum_int8_share * layers - 1e-9)


def _bisect(
    attempt: Callable[[str, Sequence[Block]], bool], ranking: Sequence[Block], most: int, found: Search
) -> list[Block]:
    """The shortest prefix of the ranking that holds, by doubling and then halving: a prefix is assumed to hold if a
    shorter one does.
    """
    sizes = [0]
    for block in ranking:
        sizes.append(sizes[-1] + len(block))
    longest = max(index for index, size in enumerate(sizes) if size <= most)
    if attempt("int8", ()):
        found.holds, found.chosen = True, ()
        return []
    failing, holding = 0, 1
    while holding <= longest and not attempt("bisect", ranking[:holding]):
        if holding == longest:
            return []
        failing, holding = holding, min(2 * holding, longest)
    if holding > longest:  # not a single block may stay in float
        return []
    _keep(found)
    while holding - failing > 1:
        middle = (failing + holding) // 2
        if attempt("bisect", ranking[:middle]):
            holding = middle
            _keep(found)
        else:
            failing = middle
    return list(ranking[:holding])


def _restore(attempt: Callable[[str, Sequence[Block]], bool], kept: list[Block], found: Search) -> None:
    """Try each block in INT8 again, the cheapest first; the last one of the prefix is needed, or a shorter prefix had
    held.
    """
    for block in reversed(kept[:-1]):
        fewer = [other for other in kept if other != block]
        if attempt("restore", fewer):
            kept = fewer
            _keep(found)


def _keep(found: Search) -> None:
    found.holds, found.chosen = True, found.trials[-1].kept


def table_rows(found: Search, layers: int, figure: str) -> list[dict[str, Any]]:
    """A row a trial, for trials.csv: trial, step, float_layers, int8_share, the gate's figure, sqnr_db (where there is
    none agreement), verdict, passes, holds, layers (names).
    """
    told = ["sqnr_db"]
    if not any("sqnr_db" in trial.figures for trial in found.trials) and found.trials[0].figures.get(AGREEMENT):
        told = [AGREEMENT]
    return [
        {
            "trial": number,
            "step": trial.step,
            "float_layers": len(trial.kept),
            "int8_share": 1 - len(trial.kept) / layers if layers else 0.0,
            figure: trial.figures[figure],
            **{name: trial.figures.get(name) for name in told},
            "verdict": trial.figures.get("verdict"),
            "passes": trial.passes,
            "holds": trial.holds,
            "layers": SEPARATOR.join(trial.kept),
        }
        for number, trial in enumerate(found.trials, start=1)
    ]
