"""What validate_accuracy finds: figures of each engine, what it differs from FP32 by, and the gate's verdict on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from enginewright.config import Precision
from enginewright.results.origin import Origin
from enginewright.results.record import Record
from enginewright.results.shape import SampleShape
from enginewright.results.verdicts import Outcome


@dataclass(frozen=True)
class Held(Record):
    """One metric of an engine held against its bound."""

    outcome: Outcome
    figure: str  # the task's, what it has without targets, or SQNR
    value: float
    low: float
    high: float
    bound: float
    rule: str  # how the bound came about, in words
    images: int
    # images that would decide, if they are like these; None where it is decided, or where no number in reach would
    needed: Optional[int]


@dataclass(frozen=True)
class Verdict(Record):
    """What the gate says of an engine: the task's metric, and the SQNR where accuracy.minimum_sqnr_db asks for one and
    anything differs from FP32.
    """

    metric: Held
    noise: Optional[Held] = None

    @property
    def held(self) -> tuple[Held, ...]:
        """What was judged."""
        return (self.metric,) if self.noise is None else (self.metric, self.noise)

    @property
    def outcome(self) -> Outcome:
        """The worst of what was judged."""
        return max((held.outcome for held in self.held), key=list(Outcome).index)

    @property
    def passed(self) -> bool:
        """Whether every metric passed; an undecided engine did not."""
        return self.outcome is Outcome.passed

    @property
    def needed(self) -> Optional[int]:
        """Images that would decide; None where it is decided, or where no number in reach would."""
        needed = [held.needed for held in self.held if held.needed is not None]
        return max(needed) if needed and self.outcome is Outcome.undecided else None


@dataclass(frozen=True)
class Gate(Record):
    """The verdicts, and how they came about."""

    mode: str  # of accuracy.gate
    figure: str  # what is judged
    verdict: str  # the worst of the gated engines, or NOT_GATED
    passed: bool
    if_undecided: str
    engines: Mapping[Precision, Verdict]  # all that were held against FP32, gated or not

    @property
    def bound(self) -> Optional[float]:
        """What the metric of every engine is held against; None where no engine was judged."""
        return next((verdict.metric.bound for verdict in self.engines.values()), None)


@dataclass(frozen=True)
class Difference(Record):
    """A metric of the task minus FP32's, paired over images; the limits are None where there is no interval."""

    metric: str
    value: float
    low: Optional[float]
    high: Optional[float]

    def to_figures(self) -> dict[str, float]:
        """Under the names that it has among the figures of an engine."""
        key = f"{self.metric}_difference"
        limits = {} if self.low is None or self.high is None else {f"{key}_low": self.low, f"{key}_high": self.high}
        return {key: self.value, **limits}


def difference_in(figures: Mapping[str, Any], metrics: Iterable[str]) -> Optional[Difference]:
    """The difference with FP32 in the first of the tasks' metrics that the figures have it of."""
    for metric in metrics:
        key = f"{metric}_difference"
        if key in figures:
            return Difference(metric, figures[key], figures.get(f"{key}_low"), figures.get(f"{key}_high"))
    return None


@dataclass(frozen=True)
class EngineAccuracy(Record):
    """What one engine made of all images."""

    engine_sha256: str
    figures: Mapping[str, Any]  # the task's `summary`, and but for FP32 its `compare`
    difference: Optional[Difference] = None
    findings: tuple[str, ...] = ()  # of its build, such as that less than half of it runs in INT8
    stands_in: Optional[str] = None  # the runtime that computes this in place of an engine of the target
    made_from: Mapping[str, str] = field(default_factory=dict)  # file -> sha256


@dataclass(frozen=True)
class AccuracyResult(Record):
    """Every engine over the validation set."""

    engines: Mapping[Precision, EngineAccuracy]  # FP32 first
    not_judged: Mapping[Precision, str]  # why, a sentence
    gate: Optional[Gate]  # None in figures of old that no gate judged
    labels: bool
    images: Optional[int]
    confidence: Optional[float]  # of the intervals
    origin: Origin
    shape: Optional[SampleShape] = None  # of what the engines were fed
    class_order: Optional[str] = None  # what says that classes are in the order of the outputs; None without targets
