"""Accuracy against throughput, engine by engine, and the one to deploy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from enginewright.config import Precision
from enginewright.results.record import Record
from enginewright.results.verdicts import Outcome


@dataclass(frozen=True)
class ParetoRow(Record):
    """Both figures of one engine."""

    precision: Precision
    engine_sha256: str
    calibration: str  # what the scales come from, in words; "none" for engines without
    scenario: str
    throughput_images_per_s: float
    speedup: Optional[float]  # to FP32; None where the target has no such engine
    figure: str  # what the gate judges
    value: float
    # the interval that the gate judges; paired with FP32, so that it is told apart from FP32's point
    low: float
    high: float
    bound: Optional[float]  # the gate's, the same in every row; None where no engine was judged
    verdict: Outcome  # the gate's; FP32's, which is not judged, by its point
    front: bool  # no other engine is as good in one and better in the other

    @property
    def holds(self) -> bool:
        """Whether it passed."""
        return self.verdict is Outcome.passed


@dataclass(frozen=True)
class ParetoResult(Record):
    """A row for each engine, FP32 first."""

    rows: tuple[ParetoRow, ...]
    findings: tuple[str, ...]  # which INT8 engines are slower than FP16's

    @property
    def chosen(self) -> Optional[ParetoRow]:
        """The engine to deploy: the fastest that passes the gate.

        One engine under two names, as a mixture without float layers is the INT8 engine, is named by the first.
        """
        passing = [row for row in self.rows if row.holds]
        if not passing:
            return None
        fastest = max(passing, key=lambda row: row.throughput_images_per_s)
        return next(row for row in self.rows if row.engine_sha256 == fastest.engine_sha256)

    @property
    def undecided(self) -> list[Precision]:
        """The engines that the images cannot tell from the bound."""
        return [row.precision for row in self.rows if row.verdict is Outcome.undecided]
