"""What became of a precision at its build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from enginewright.config import Precision
from enginewright.results.origin import ORIGIN_KEYS, Origin


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
    origin: Optional[Origin] = None  # None where nobody puts it beside others

    def says(self) -> str:
        """Why there is no engine, with its name."""
        if self.state is BuildState.absent:
            return f"{self.precision.value} was not asked for (build.precisions)"
        return f"{self.precision.value} was refused by build_{self.precision.value}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """The figures, and beside them what became of the precision: its metrics, and its record where it failed."""
        why = {"reason": self.reason} if self.reason else {}
        of = {} if self.origin is None else self.origin.to_figures()
        return {"precision": self.precision.value, "outcome": self.state.value, **why, **of, **self.figures}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BuildOutcome:
        """The record of what `to_json` made."""
        own = {"precision", "outcome", "reason", *ORIGIN_KEYS}
        figures = {key: value for key, value in content.items() if key not in own}
        origin = Origin.from_figures(content) if any(key in content for key in ORIGIN_KEYS) else None
        state = BuildState(content["outcome"])
        return cls(Precision(content["precision"]), state, str(content.get("reason", "")), figures, origin)
