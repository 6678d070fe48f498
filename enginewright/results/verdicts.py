"""What stops the pipeline or lets it pass: the verdicts that the stage `gate` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from enginewright.config import Precision
from enginewright.results.record import Record


class Outcome(Enum):
    """What an interval says of a bound; the worst comes last."""

    passed = "passed"
    undecided = "undecided"
    failed = "failed"


# The verdict on all engines where accuracy.gated names none: nothing passed, as nothing was asked.
NOT_GATED = "not gated"


@dataclass(frozen=True)
class Judgement(Record):
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


@dataclass(frozen=True)
class Drift(Record):
    """What check_drift says of the validation images, for the stage `gate`."""

    verdict: str  # a sentence
    observed: bool = True  # False where ONNX Runtime is missing: nothing is known
    drifted_tensors: int = 0
    images: Mapping[str, int] = field(default_factory=dict)  # of each set, that were compared
    tensors: tuple[Mapping[str, Any], ...] = ()  # drift.csv's rows, the most drifted first

    @property
    def passed(self) -> bool:
        """Whether the images were looked at and are alike; what is unknown did not pass."""
        return self.observed and not self.drifted_tensors

    def reasons(self) -> Iterator[str]:
        """Why a pipeline that asks for images alike ends here; none where it goes on."""
        if not self.passed:
            table = " (artifacts/drift/drift.csv)" if self.observed else ""
            yield f"{self.verdict}{table}; or set check_drift.fail=false"
