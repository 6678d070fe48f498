"""What validate_accuracy would say of a mixture if its images were answered as the sensitivity images are.

The search looks for a mixture that will pass on the validation images, and there are more of those, or fewer. So a
mixture is judged by the interval that as many images as the validation has would give. Where that many images are too
few to pass any engine, even one that answers as FP32 does, the verdict cannot guide a search: then the point decides,
and the stage says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enginewright.accuracy import gate
from enginewright.config import Accuracy
from enginewright.results.accuracy import Verdict
from enginewright.results.verdicts import Outcome
from enginewright.tasks.base import Evaluation, Figures, Task


@dataclass(frozen=True)
class Rehearsal:
    """The gate on images that it is not held on."""

    accuracy: Accuracy
    images: int  # that validate_accuracy will have
    margin: float = 0.0  # what the bound is raised by

    def verdict(self, task: Task, candidate: Evaluation, fp32: Evaluation) -> Verdict:
        """What the gate says of an engine, as on `images` images."""
        return gate.judge(task, candidate, fp32, self.accuracy, images=self.images, margin=self.margin)

    def figures(self, task: Task, candidate: Evaluation, fp32: Evaluation) -> dict[str, Any]:
        """The verdict as metrics of a variant: `verdict`, `reaches` (the points do), `value`, `low`, `bound` and
        `figure` of the gate.
        """
        verdict = self.verdict(task, candidate, fp32)
        reaches = all(held.value >= held.bound - gate.ROUNDING for held in verdict.held)
        metric = verdict.metric
        found = {"figure": metric.figure, "value": metric.value, "low": metric.low, "bound": metric.bound}
        return {"verdict": verdict.outcome.value, "reaches": reaches, **found}

    def holds(self, figures: Figures, decidable: bool) -> bool:
        """Whether a variant with these metrics is good enough: it passes, or where no engine could, its point reaches
        the bound.
        """
        return figures["verdict"] == Outcome.passed.value if decidable else bool(figures["reaches"])
