"""The accuracy gate: whether an engine keeps enough of FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enginewright.config import Accuracy, GateMode, Precision

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9  # a bound such as 0.99 x 0.98 is no exact binary fraction; no image counts as little
WORST_CLASSES = 3


@dataclass(frozen=True)
class Verdict:
    """A figure of an engine held against its bound."""

    precision: str
    passed: bool
    figure: str  # "top1", or "agreement" where there are no labels
    value: float
    bound: float
    rule: str  # how the bound came about, in words

    @property
    def sentence(self) -> str:
        """For the terminal."""
        outcome = "holds" if self.passed else "fails"
        return f"Gate {outcome}: {self.figure} of {self.precision} {self.value:.4f}, bound {self.bound:.4f} ({self.rule})"


def metrics(verdicts: Sequence[Verdict], settings: Accuracy) -> dict[str, Any]:
    """What dvc metrics shows of it: whether every gated engine passed, and a section for each engine that was judged."""
    gated = [verdict for verdict in verdicts if Precision[verdict.precision] in settings.gated]
    each = {verdict.precision: {"passed": verdict.passed, "value": verdict.value, "bound": verdict.bound} for verdict in verdicts}
    return {"passed": all(verdict.passed for verdict in gated), "mode": settings.gate.name, "figure": verdicts[0].figure, **each}


def judge_all(figures: Mapping[str, dict[str, Any]], settings: Accuracy) -> list[Verdict]:
    """Judge every INT8 engine and every gated one, in the order of `figures`, which holds the metrics by precision."""
    judged = {Precision.int8.name, Precision.int8_mixed.name, *(precision.name for precision in settings.gated)}
    return [judge(found, figures["fp32"], settings, precision) for precision, found in figures.items() if precision in judged]


def judge(candidate: dict[str, Any], fp32: dict[str, Any], settings: Accuracy, precision: str = "int8") -> Verdict:
    """Hold an engine's top-1 against FP32's; without labels its agreement with FP32, whose own agreement is 1.

    Args:
        candidate: metrics that hold "top1" if there are labels, else "agreement".
        fp32: metrics that hold "top1" if there are labels.
        settings: mode and bounds. Relative: value >= minimum_ratio x FP32 (MLPerf Inference asks for 99 %); absolute: value >= FP32 - maximum_loss.
        precision: of the candidate, for sentences.
    """
    figure = "top1" if "top1" in fp32 else "agreement"
    reference = float(fp32[figure]) if figure == "top1" else 1.0
    if settings.gate is GateMode.relative:
        bound, rule = settings.minimum_ratio * reference, f"{settings.minimum_ratio:g} x {reference:.4f}"
    else:
        bound, rule = reference - settings.maximum_loss, f"{reference:.4f} - {settings.maximum_loss:g}"
    value = float(candidate[figure])
    return Verdict(precision, value >= bound - ROUNDING, figure, value, bound, rule)


def failure(verdict: Verdict, classes: pd.DataFrame, settings: Accuracy, table: str) -> str:
    """The sentence of GateFailed.

    Args:
        verdict: one that did not pass.
        classes: the table of `tables.class_table`.
        settings: the configured bounds.
        table: where `classes` was written.
    """
    knob = "accuracy.minimum_ratio" if settings.gate is GateMode.relative else "accuracy.maximum_loss"
    remedy = "try another calibration.algorithm or more data.calibration_images"
    if verdict.precision == Precision.int8_mixed.name:
        remedy += ", raise search_mixed.margin so that more layers stay in FP16"
    name = {"top1": f"top-1 of {verdict.precision}", "agreement": f"agreement of {verdict.precision} with fp32"}[verdict.figure]
    return (
        f"{name} is {verdict.value:.4f}, under the bound {verdict.bound:.4f} (fp32: {verdict.rule}); "
        f"{_lost_most(classes, verdict)} ({table}); "
        f"{remedy}, or move {knob}"
    )


def _lost_most(classes: pd.DataFrame, verdict: Verdict) -> str:
    labelled = verdict.figure == "top1"
    column = f"recall_delta_{verdict.precision}" if labelled else f"agreement_{verdict.precision}"
    worst = classes.sort_values(column, kind="stable").head(WORST_CLASSES)
    losses = worst[column] if labelled else worst[column] - 1
    shown = [f"'{name}' ({loss:+.3f})" for name, loss in zip(worst["class"], losses) if loss < 0]
    return f"the classes that lost most are {_listed(shown)}" if shown else "no class lost"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
