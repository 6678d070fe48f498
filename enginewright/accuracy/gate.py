"""The accuracy gate: whether an engine keeps enough of FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enginewright import artifacts
from enginewright.accuracy.tasks.base import AGREEMENT, AccuracyTask, Figures
from enginewright.config import QUANTIZED, Accuracy, GateMode, Precision

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9  # a bound such as 0.99 x 0.98 is no exact binary fraction; no image counts as little
WORST_CLASSES = 3


@dataclass(frozen=True)
class Verdict:
    """A figure of an engine held against its bound."""

    passed: bool
    figure: str  # the task's, or "agreement" where there are no targets
    value: float
    bound: float
    rule: str  # how the bound came about, in words


def metrics(verdicts: Mapping[Precision, Verdict], settings: Accuracy) -> dict[str, Any]:
    """What dvc metrics shows of it: whether every gated engine passed, and a section for each engine that was judged."""
    each = {precision.value: {"passed": verdict.passed, "value": verdict.value, "bound": verdict.bound} for precision, verdict in verdicts.items()}
    passed = all(verdict.passed for precision, verdict in verdicts.items() if precision in settings.gated)
    return {"passed": passed, "mode": settings.gate.name, "figure": next(iter(verdicts.values())).figure, **each}


def sections(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The verdicts in what `metrics` returned or a file holds of it: precision -> passed, value, bound."""
    return {name: section for name, section in found.items() if isinstance(section, Mapping)}


def reaches(value: float, bound: float) -> bool:
    """Whether a figure is at its bound or beyond."""
    return value >= bound - ROUNDING


def judge_all(task: AccuracyTask, figures: Mapping[str, Figures], settings: Accuracy) -> dict[Precision, Verdict]:
    """Judge every INT8 engine and every gated one, in the order of `figures`, which holds the metrics by precision."""
    judged = {*QUANTIZED, *settings.gated}
    return {Precision[name]: judge(task, found, figures["fp32"], settings) for name, found in figures.items() if Precision[name] in judged}


def judge(task: AccuracyTask, candidate: Figures, fp32: Figures, settings: Accuracy) -> Verdict:
    """Hold an engine's figure of the task against FP32's; without targets its agreement with FP32, whose own agreement is 1.

    Args:
        task: whose figure it is.
        candidate: the task's summary of the engine; it holds the task's figure if there are targets, else "agreement".
        fp32: the same of FP32, over the same images.
        settings: mode and bounds. Relative: value >= minimum_ratio x FP32 (MLPerf Inference asks for 99 %); absolute: value >= FP32 - maximum_loss.
    """
    figure = task.figure if task.figure in fp32 else AGREEMENT
    reference = 1.0 if figure == AGREEMENT else float(fp32[figure])
    if settings.gate is GateMode.relative:
        bound, rule = settings.minimum_ratio * reference, f"{settings.minimum_ratio:g} x {reference:.4f}"
    else:
        bound, rule = reference - settings.maximum_loss, f"{reference:.4f} - {settings.maximum_loss:g}"
    value = float(candidate[figure])
    return Verdict(reaches(value, bound), figure, value, bound, rule)


def failure(task: AccuracyTask, verdict: Verdict, precision: Precision, classes: pd.DataFrame, settings: Accuracy) -> str:
    """The sentence of GateFailed.

    Args:
        task: whose figure did not pass.
        verdict: the one that did not pass.
        precision: of the engine that was judged.
        classes: the task's table classes.csv.
        settings: the configured bounds.
    """
    knob = "accuracy.minimum_ratio" if settings.gate is GateMode.relative else "accuracy.maximum_loss"
    remedy = "try another calibration.algorithm or more data.calibration_images"
    if precision is Precision.int8_mixed:
        remedy += ", raise search_mixed.margin so that more layers stay in FP16"
    name = f"agreement of {precision.value} with fp32" if verdict.figure == AGREEMENT else f"{task.title} of {precision.value}"
    return (
        f"{name} is {verdict.value:.4f}, under the bound {verdict.bound:.4f} (fp32: {verdict.rule}); "
        f"{_lost_most(task, verdict, precision, classes)} ({artifacts.ACCURACY / 'classes.csv'}); "
        f"{remedy}, or move {knob}"
    )


def _lost_most(task: AccuracyTask, verdict: Verdict, precision: Precision, classes: pd.DataFrame) -> str:
    agreement = verdict.figure == AGREEMENT
    column = f"agreement_{precision.value}" if agreement else f"{task.class_figure}_delta_{precision.value}"
    worst = classes.sort_values(column, kind="stable").head(WORST_CLASSES)
    losses = worst[column] - 1 if agreement else worst[column]
    shown = [f"'{name}' ({loss:+.3f})" for name, loss in zip(worst["class"], losses) if loss < 0]
    return f"the classes that lost most are {_listed(shown)}" if shown else "no class lost"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
