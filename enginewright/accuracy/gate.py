"""The accuracy gate: whether an engine keeps enough of FP32, and whether the images can tell.

A point says nothing about the next image, so the gate judges intervals: an engine passes if the lower limit reaches the
bound, fails if the upper limit is below it, and is undecided otherwise (docs/decisions/0022-gate-by-interval.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Optional

from enginewright.config import Accuracy, GateMode, Precision, Undecided
from enginewright.data.columns import Column
from enginewright.errors import DataError
from enginewright.layout import Layout
from enginewright.results.accuracy import Gate, Held, Verdict
from enginewright.results.verdicts import Judgement, Outcome
from enginewright.statistics import Estimate
from enginewright.tasks.base import AGREEMENT, Evaluation, Task

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-9  # a bound such as 0.99 x 0.98 is no exact binary fraction; no image counts as little
WORST_CLASSES = 3
MOST_IMAGES = 10_000_000  # that a verdict asks for; beyond, the metric lies on its bound
SQNR = "sqnr_db"


def judge_all(task: Task, evaluations: Mapping[Precision, Evaluation], settings: Accuracy) -> dict[Precision, Verdict]:
    """Judge every engine but FP32's, in the order of `evaluations`."""
    fp32 = evaluations[Precision.fp32]
    return {
        precision: judge(task, found, fp32, settings)
        for precision, found in evaluations.items()
        if precision is not Precision.fp32
    }


def judge(
    task: Task,
    candidate: Evaluation,
    fp32: Evaluation,
    settings: Accuracy,
    *,
    images: Optional[int] = None,
    margin: float = 0.0,
) -> Verdict:
    """Hold an engine's metric of the task against FP32's; without targets what it has of FP32's answers, which is 1 for
    FP32.

    The interval is one of the quantity that is judged, paired over images: of value - minimum_ratio x FP32 (MLPerf
    Inference asks for 99 %) in relative mode, of value - FP32 in absolute mode.

    Args:
        task: whose metric it is.
        candidate: the engine's rows.
        fp32: FP32's, over the same images.
        settings: mode, bounds, confidence.
        images: judge as so many images like these would; without it, as these do.
        margin: what the bound is raised by.
    """
    reference = task.summary(fp32.rows, fp32.classes)
    figure = figure_of(task, fp32)
    of_fp32 = float(reference.get(figure, 1.0))
    relative = settings.gate is GateMode.relative
    difference = task.estimate(candidate.rows, fp32.rows, settings.minimum_ratio if relative else 1.0)
    least = margin if relative else margin - settings.maximum_loss
    rule = f"{settings.minimum_ratio:g} x {of_fp32:.4f}" if relative else f"{of_fp32:.4f} - {settings.maximum_loss:g}"
    bound = of_fp32 * settings.minimum_ratio if relative else of_fp32 - settings.maximum_loss
    held = _held(figure, difference, least, settings.confidence, images)
    shift = bound + margin - least  # from the difference, which is judged, to the metric, which people read
    high = min(held.high + shift, 1.0)  # of the difference more is possible, of the metric not
    metric = Held(
        held.outcome, figure, held.value + shift, held.low + shift, high, bound + margin, rule, held.images, held.needed
    )
    noise = None if settings.minimum_sqnr_db is None else task.noise(candidate.rows)
    if noise is None or settings.minimum_sqnr_db is None:
        return Verdict(metric)
    return Verdict(metric, _held(SQNR, noise, settings.minimum_sqnr_db, settings.confidence, images))


def figure_of(task: Task, fp32: Evaluation) -> str:
    """What the gate judges: the task's metric, or what it has of FP32's answers where there are no targets."""
    return task.metric if task.metric in task.summary(fp32.rows, fp32.classes) else task.without_targets


def require_signal(task: Task, fp32: Evaluation, targets: Optional[Column], confidence: float) -> None:
    """Refuse to hold anything against an FP32 that knows no more than the commonest answer.

    Raises:
        DataError: where targets exist, FP32's lower limit does not exceed what always giving the commonest answer
            reaches; where none exist, it answers every one of several images alike.
    """
    commonest = None if targets is None else task.baseline(targets)
    if commonest is None:
        if len(fp32.rows) > 1 and task.answers_alike(fp32):
            raise DataError(
                f"fp32 gives all {len(fp32.rows)} images the same answer, and an engine that keeps that keeps nothing."
                " Likely causes are images of one kind, weights that were not loaded, data.preprocessing other than in"
                " training, or numbers that are no class scores (set model.task=outputs);"
                " accuracy.require_signal=false measures all the same"
            )
        return
    estimate = task.estimate(fp32.rows, fp32.rows, 0.0)
    low, high = estimate.interval(confidence)
    if low > commonest + ROUNDING:
        return
    what = (
        f"fp32 itself has {task.title} {estimate.value:.4f} ({low:.4f} to {high:.4f} at {confidence:.0%}) on"
        f" {estimate.images} images"
    )
    if commonest >= 1:
        raise DataError(
            f"{what}, which all have the same answer: nothing can be told from them; use images of several classes"
        )
    raise DataError(
        f"{what}, and always giving the commonest answer has {commonest:.4f}: an engine that keeps that keeps nothing."
        " Likely causes are wrong labels, classes in another order than the model's outputs (class folders are sorted"
        " by name), data.preprocessing other than in training, or too few images; accuracy.require_signal=false"
        " measures all the same"
    )


def record(verdicts: Mapping[Precision, Verdict], settings: Accuracy, figure: str) -> Gate:
    """The verdicts, and the worst of the gated engines. `figure` is what is judged."""
    whole = Judgement(tuple(settings.gated), {precision: verdict.outcome for precision, verdict in verdicts.items()})
    return Gate(
        mode=settings.gate.name,
        figure=figure,
        verdict=whole.verdict,
        passed=whole.passed,
        if_undecided=settings.undecided.name,
        engines=dict(verdicts),
    )


def judgement(
    task: Task,
    verdicts: Mapping[Precision, Verdict],
    classes: Optional[pd.DataFrame],
    settings: Accuracy,
    not_judged: Mapping[Precision, str],
) -> Judgement:
    """The verdicts for the stage `gate`, with the sentence of each gated engine that stops the pipeline.

    Args:
        task: whose metric was judged.
        verdicts: of the engines that were.
        classes: the task's table classes.csv, None if it has none.
        settings: which engines are gated.
        not_judged: the precisions without a verdict, and why.
    """
    return Judgement(
        tuple(settings.gated),
        {precision: verdict.outcome for precision, verdict in verdicts.items()},
        {
            **{
                precision: f"an engine that is gated was not judged: {why}"
                for precision, why in not_judged.items()
                if precision in settings.gated
            },
            **{
                precision: failure(task, verdict, precision, classes, settings)
                for precision, verdict in stops(verdicts, settings).items()
            },
        },
    )


def stops(verdicts: Mapping[Precision, Verdict], settings: Accuracy) -> dict[Precision, Verdict]:
    """The verdicts that stop the pipeline: of gated engines, those that failed, and the undecided ones unless
    accuracy.undecided is warn.
    """
    stopping = {Outcome.failed, Outcome.undecided} if settings.undecided is Undecided.fail else {Outcome.failed}
    return {
        precision: verdict
        for precision, verdict in verdicts.items()
        if precision in settings.gated and verdict.outcome in stopping
    }


def sentence(task: Task, verdict: Verdict, precision: str) -> str:
    """What the gate found of an engine, and what would decide it, in one line."""
    return "; ".join(_words(task, held, precision) for held in verdict.held)


def failure(
    task: Task, verdict: Verdict, precision: Precision, classes: Optional[pd.DataFrame], settings: Accuracy
) -> str:
    """The sentence of GateFailed.

    Args:
        task: whose metric did not pass.
        verdict: the one that did not pass.
        precision: of the engine that was judged.
        classes: the task's table classes.csv, None if it has none.
        settings: the configured bounds.
    """
    knob = "accuracy.minimum_ratio" if settings.gate is GateMode.relative else "accuracy.maximum_loss"
    missed = [held for held in verdict.held if held.outcome is not Outcome.passed]
    knobs = " or ".join("accuracy.minimum_sqnr_db" if held.figure == SQNR else knob for held in missed)
    what = "; ".join(_words(task, held, precision.value) for held in missed)
    if verdict.metric in missed and classes is not None:
        what += (
            f"; {_lost_most(task, verdict.metric.figure, precision.value, classes)}"
            f" ({Layout().accuracy / 'classes.csv'})"
        )
    if verdict.outcome is Outcome.undecided:
        return (
            f"{what}; raise data.validation_images, move {knobs}, or let undecided engines go on with"
            " accuracy.undecided=warn"
        )
    remedy = "try another calibration.algorithm or more data.calibration_images"
    if precision is Precision.int8_mixed:
        remedy += ", raise search_mixed.margin so that more layers stay in FP16"
    if verdict.metric.figure == AGREEMENT:
        remedy += ", set model.task=outputs if the model's output is no class scores (an embedding, a regression)"
    return f"{what}; {remedy}, or move {knobs}"


def _held(figure: str, estimate: Estimate, bound: float, confidence: float, images: Optional[int]) -> Held:
    low, high = estimate.interval(confidence, images)
    outcome = _outcome(low, high, bound)
    needed = _needed(estimate, bound, confidence) if outcome is Outcome.undecided else None
    return Held(
        outcome, figure, estimate.value, low, high, bound, "accuracy.minimum_sqnr_db", images or estimate.images, needed
    )


def _outcome(low: float, high: float, bound: float) -> Outcome:
    if low >= bound - ROUNDING:
        return Outcome.passed
    return Outcome.failed if high < bound - ROUNDING else Outcome.undecided


def _needed(estimate: Estimate, bound: float, confidence: float) -> Optional[int]:
    """The fewest images that decide if they are like these, to a tenth of a percent."""

    def decides(images: int) -> bool:
        return _outcome(*estimate.interval(confidence, images), bound) is not Outcome.undecided

    few, many = estimate.images, 2 * estimate.images
    while not decides(many):
        few, many = many, 2 * many
        if many > MOST_IMAGES:
            return None
    while many - few > max(1, many // 1000):
        middle = (few + many) // 2
        few, many = (few, middle) if decides(middle) else (middle, many)
    return many


def _words(task: Task, held: Held, precision: str) -> str:
    form = ".1f" if held.figure == SQNR else ".4f"
    value, low, high, bound = (format(number, form) for number in (held.value, held.low, held.high, held.bound))
    unit = " dB" if held.figure == SQNR else ""
    interval = f"{low} to {high}{unit}" if held.low < held.high else f"{value}{unit}"
    says = {Outcome.passed: "reaches", Outcome.failed: "is below", Outcome.undecided: "is undecided against"}[
        held.outcome
    ]
    rule = held.rule if held.figure == SQNR else f"fp32: {held.rule}"
    text = (
        f"{name_of(task, held.figure)} of {precision} is {value}{unit} ({interval}), which {says} the bound"
        f" {bound}{unit} ({rule})"
    )
    if held.outcome is not Outcome.undecided:
        return text
    if held.needed is None:
        return (
            f"{text}: the value lies so close to the bound that no number of images up to {MOST_IMAGES:,} would decide"
        )
    return f"{text}: about {held.needed:,} images like these {held.images:,} would decide"


def name_of(task: Task, figure: str) -> str:
    """A metric of the gate for people."""
    names = {SQNR: "SQNR", task.without_targets: task.without_targets_title}
    return names.get(figure, task.title)


def _lost_most(task: Task, figure: str, precision: str, classes: pd.DataFrame) -> str:
    what, many = ("output", "outputs") if task.every_output else ("class", "classes")
    against_fp32 = figure == task.without_targets  # which has 1 of it, so the table holds no difference
    column = (
        f"{task.class_metric if task.every_output else AGREEMENT}_{precision}"
        if against_fp32
        else f"{task.class_metric}_delta_{precision}"
    )
    worst = classes.sort_values(column, kind="stable").head(WORST_CLASSES)
    losses = worst[column] - 1 if against_fp32 else worst[column]
    shown = [f"'{name}' ({loss:+.3f})" for name, loss in zip(worst["class"], losses) if loss < 0]
    return f"the {many} that lost most are {_listed(shown)}" if shown else f"no {what} lost"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
