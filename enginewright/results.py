"""What stages find out, as typed records: the terminal, DVC's metrics and whoever computes with figures read these.

Each record goes to JSON and comes back: `from_json(to_json())` is the record itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from enginewright.config import Precision


class Outcome(Enum):
    """What an interval says of a bound; the worst comes last."""

    passed = "passed"
    undecided = "undecided"
    failed = "failed"


# The verdict on all engines where accuracy.gated names none: nothing passed, as nothing was asked.
NOT_GATED = "not gated"


# Among the metrics of FP32's accuracy, with a runtime's name: they are of what that computes, not of an engine here.
STANDS_IN = "stands_in"


class BuildState(Enum):
    """What became of a precision."""

    built = "built"
    failed = "failed"  # asked for, and refused for a reason that a second build would meet again
    absent = "absent"  # not in build.precisions


@dataclass(frozen=True)
class BuildOutcome:
    """What a build stage made of its precision; `figures` are the metrics of an engine, empty where there is none."""

    precision: Precision
    state: BuildState
    reason: str = ""  # why there is no engine, a sentence
    figures: Mapping[str, Any] = field(default_factory=dict)

    def says(self) -> str:
        """Why there is no engine, with its name."""
        if self.state is BuildState.absent:
            return f"{self.precision.value} was not asked for (build.precisions)"
        return f"{self.precision.value} was refused by build_{self.precision.value}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """The figures, and beside them what became of the precision."""
        why = {"reason": self.reason} if self.reason else {}
        return {"precision": self.precision.value, "outcome": self.state.value, **why, **self.figures}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BuildOutcome:
        """The record of what `to_json` made."""
        own = {"precision", "outcome", "reason"}
        figures = {key: value for key, value in content.items() if key not in own}
        state = BuildState(content["outcome"])
        return cls(Precision(content["precision"]), state, str(content.get("reason", "")), figures)


@dataclass(frozen=True)
class NoiseVerdict:
    """An engine's SQNR held against accuracy.minimum_sqnr_db; a limit that too few images leave open is None."""

    outcome: Outcome
    minimum_db: float
    low_db: Optional[float] = None
    high_db: Optional[float] = None


@dataclass(frozen=True)
class EngineVerdict:
    """What the gate says of one engine: its metric, the interval of that, and the bound."""

    outcome: Outcome
    value: float
    bound: float
    low: Optional[float] = None  # None in records of versions that judged points
    high: Optional[float] = None
    images_to_decide: Optional[int] = None  # of an undecided one: so many images like these would
    noise: Optional[NoiseVerdict] = None

    @property
    def passed(self) -> bool:
        """Whether it may be deployed."""
        return self.outcome is Outcome.passed

    def to_json(self) -> dict[str, Any]:
        """A section of DVC's metrics; what is None is left out."""
        noise = self.noise
        found = {
            "verdict": self.outcome.value,
            "passed": self.passed,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "bound": self.bound,
            "images_to_decide": self.images_to_decide,
            "sqnr_db_verdict": noise.outcome.value if noise else None,
            "minimum_sqnr_db": noise.minimum_db if noise else None,
            "sqnr_db_low": noise.low_db if noise else None,
            "sqnr_db_high": noise.high_db if noise else None,
        }
        return {key: value for key, value in found.items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EngineVerdict:
        """The record of what `to_json` made."""
        noise = None
        if "minimum_sqnr_db" in content:
            noise = NoiseVerdict(
                Outcome(content["sqnr_db_verdict"]),
                float(content["minimum_sqnr_db"]),
                content.get("sqnr_db_low"),
                content.get("sqnr_db_high"),
            )
        outcome = content.get("verdict", "passed" if content["passed"] else "failed")
        return cls(
            Outcome(outcome),
            float(content["value"]),
            float(content["bound"]),
            content.get("low"),
            content.get("high"),
            content.get("images_to_decide"),
            noise,
        )


@dataclass(frozen=True)
class GateRecord:
    """The section `gate` of the metrics of validate_accuracy."""

    verdict: str  # the worst of the gated engines, or NOT_GATED
    figure: str  # what was judged
    mode: str
    if_undecided: str
    engines: Mapping[Precision, EngineVerdict] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was gated, and all of it passed."""
        return self.verdict == Outcome.passed.value

    def to_json(self) -> dict[str, Any]:
        """What DVC's metrics hold: the whole verdict, and a section for each engine that was judged."""
        return {
            "verdict": self.verdict,
            "passed": self.passed,
            "mode": self.mode,
            "figure": self.figure,
            "if_undecided": self.if_undecided,
            **{precision.value: verdict.to_json() for precision, verdict in self.engines.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> GateRecord:
        """The record of what `to_json` made, also of what earlier versions wrote."""
        mode, undecided = str(content["mode"]), str(content.get("if_undecided", ""))
        engines = {
            precision: EngineVerdict.from_json(content[precision.value])
            for precision in Precision
            if precision.value in content
        }
        verdict = content.get("verdict", "passed" if content["passed"] else "failed")
        return cls(str(verdict), str(content["figure"]), mode, undecided, engines)


@dataclass(frozen=True)
class Judgement:
    """What validate_accuracy says of the engines that `accuracy.gated` names, for the stage `gate`.

    An engine that was not judged did not pass: what is gated and in neither mapping stops the pipeline too.
    """

    gated: tuple[Precision, ...]
    judged: Mapping[Precision, Outcome] = field(default_factory=dict)  # all engines that were held against FP32
    stopping: Mapping[Precision, str] = field(default_factory=dict)  # of the gated ones: why not to go on, a sentence

    @property
    def verdict(self) -> str:
        """The worst outcome of the gated engines."""
        if not self.gated:
            return NOT_GATED
        found = [self.judged.get(precision, Outcome.failed) for precision in self.gated]
        return max(found, key=list(Outcome).index).value

    @property
    def passed(self) -> bool:
        """Whether something was asked for, and all of it passed."""
        return self.verdict == Outcome.passed.value

    def reasons(self) -> Iterator[str]:
        """Why the pipeline ends here, a sentence for each engine; none where it goes on."""
        for precision in self.gated:
            if precision in self.stopping:
                yield self.stopping[precision]
            elif self.judged.get(precision, Outcome.failed) is Outcome.failed:
                yield f"{precision.value} is gated and {'failed' if precision in self.judged else 'was not judged'}"

    def says(self) -> str:
        """The verdict in words."""
        names = ", ".join(precision.value for precision in self.gated)
        return f"{names}: {self.verdict}" if names else f"{NOT_GATED}: accuracy.gated names no engine"

    def to_json(self) -> dict[str, Any]:
        """Plain values, precisions by name."""
        return {
            "gated": [precision.value for precision in self.gated],
            "judged": {precision.value: outcome.value for precision, outcome in self.judged.items()},
            "stopping": {precision.value: reason for precision, reason in self.stopping.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Judgement:
        """The record of what `to_json` made."""
        return cls(
            tuple(map(Precision, content["gated"])),
            {Precision(name): Outcome(outcome) for name, outcome in content["judged"].items()},
            {Precision(name): str(reason) for name, reason in content["stopping"].items()},
        )


@dataclass(frozen=True)
class Drift:
    """What check_drift says of the validation images, for the stage `gate`."""

    verdict: str  # a sentence
    observed: bool = True  # False where ONNX Runtime is missing: nothing is known
    drifted_tensors: int = 0

    @property
    def passed(self) -> bool:
        """Whether the images were looked at and are alike; what is unknown did not pass."""
        return self.observed and not self.drifted_tensors

    def reasons(self) -> Iterator[str]:
        """Why a pipeline that asks for images alike ends here; none where it goes on."""
        if not self.passed:
            table = " (artifacts/drift/drift.csv)" if self.observed else ""
            yield f"{self.verdict}{table}; or set check_drift.fail=false"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"verdict": self.verdict, "observed": self.observed, "drifted_tensors": self.drifted_tensors}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Drift:
        """The record of what `to_json` made, whatever lies beside it."""
        return cls(str(content["verdict"]), bool(content["observed"]), int(content["drifted_tensors"]))
