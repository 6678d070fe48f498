"""The accuracy gate: whether INT8 keeps enough of FP32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enginewright.config import Accuracy, GateMode

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9  # a bound such as 0.99 x 0.98 is no exact binary fraction; no image counts as little
WORST_CLASSES = 3


@dataclass(frozen=True)
class Verdict:
    """A figure of an engine held against its bound."""

    passed: bool
    figure: str  # "top1", or "agreement" where there are no labels
    value: float
    bound: float
    rule: str  # how the bound came about, in words

    def metrics(self, mode: GateMode) -> dict[str, Any]:
        """What dvc metrics shows of it."""
        return {"passed": self.passed, "mode": mode.name, "figure": self.figure, "value": self.value, "bound": self.bound}


def judge(int8: dict[str, Any], fp32: dict[str, Any], settings: Accuracy) -> Verdict:
    """Hold INT8's top-1 against FP32's; without labels its agreement with FP32, whose own agreement is 1.

    Args:
        int8: metrics that hold "top1" if there are labels, else "agreement".
        fp32: metrics that hold "top1" if there are labels.
        settings: mode and bounds. Relative: value >= minimum_ratio x FP32 (MLPerf Inference asks for 99 %); absolute: value >= FP32 - maximum_loss.
    """
    figure = "top1" if "top1" in fp32 else "agreement"
    reference = float(fp32[figure]) if figure == "top1" else 1.0
    if settings.gate is GateMode.relative:
        bound, rule = settings.minimum_ratio * reference, f"{settings.minimum_ratio:g} x {reference:.4f}"
    else:
        bound, rule = reference - settings.maximum_loss, f"{reference:.4f} - {settings.maximum_loss:g}"
    value = float(int8[figure])
    return Verdict(value >= bound - ROUNDING, figure, value, bound, rule)


def failure(verdict: Verdict, classes: pd.DataFrame, settings: Accuracy, table: str) -> str:
    """The sentence of GateFailed.

    Args:
        verdict: one that did not pass.
        classes: the table of `tables.class_table`.
        settings: the configured bounds.
        table: where `classes` was written.
    """
    knob = "accuracy.minimum_ratio" if settings.gate is GateMode.relative else "accuracy.maximum_loss"
    name = {"top1": "top-1 of int8", "agreement": "agreement of int8 with fp32"}[verdict.figure]
    return (
        f"{name} is {verdict.value:.4f}, under the bound {verdict.bound:.4f} (fp32: {verdict.rule}); "
        f"{_lost_most(classes, verdict.figure)} ({table}); "
        f"try another calibration.algorithm or more data.calibration_images, or move {knob}"
    )


def _lost_most(classes: pd.DataFrame, figure: str) -> str:
    column = "recall_delta_int8" if figure == "top1" else "agreement_int8"
    worst = classes.sort_values(column, kind="stable").head(WORST_CLASSES)
    losses = worst[column] if figure == "top1" else worst[column] - 1
    shown = [f"'{name}' ({loss:+.3f})" for name, loss in zip(worst["class"], losses) if loss < 0]
    return f"the classes that lost most are {_listed(shown)}" if shown else "no class lost"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
