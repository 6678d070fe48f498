"""What validate_accuracy does: all engines over all images, then tables, the result and the verdict for `gate`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from enginewright.accuracy import gate
from enginewright.accuracy.evaluate import Evaluator, Judged
from enginewright.config import Precision
from enginewright.errors import RuntimeUnavailable
from enginewright.manifest import Manifest
from enginewright.results.accuracy import AccuracyResult, EngineAccuracy, difference_in
from enginewright.results.shape import SampleShape
from enginewright.runtimes.built import Engines, SealedEngine, origin_of
from enginewright.stage import Stage
from enginewright.target import TargetFingerprint
from enginewright.tasks.base import Evaluation, Task

if TYPE_CHECKING:
    import pandas as pd

OUT_OF_MEMORY = (RuntimeUnavailable, MemoryError)  # what an engine raises that finds no room beside the others


def evaluate_all(evaluator: Evaluator, engines: Mapping[Precision, SealedEngine], outputs: Sequence[str]) -> Judged:
    """Judge engines against FP32, all of them loaded at once; where the device has no room for that, one beside FP32.

    `engines` has FP32 first. Raises as `Evaluator.side_by_side` does, and RuntimeUnavailable or MemoryError where not
    even two engines fit.
    """
    try:
        return _together(evaluator, engines, outputs)
    except OUT_OF_MEMORY as fault:
        if len(engines) <= 2:  # FP32 and one
            raise
        print(f"the engines do not fit together ({fault}); each goes over the images beside FP32", file=sys.stderr)
    evaluations: dict[Precision, Evaluation] = {}
    failed: dict[Precision, str] = {}
    shape: Optional[SampleShape] = None
    for precision, engine in list(engines.items())[1:]:
        pair = {Precision.fp32: engines[Precision.fp32], precision: engine}
        found = _together(evaluator, pair, outputs)
        evaluations.update(found.evaluations)
        failed.update(found.failed)
        shape = found.shape
    return Judged(evaluations, failed, shape)


def _together(evaluator: Evaluator, engines: Mapping[Precision, SealedEngine], outputs: Sequence[str]) -> Judged:
    with contextlib.ExitStack() as stack:
        loaded = {precision: stack.enter_context(engine.load()) for precision, engine in engines.items()}
        return evaluator.side_by_side(loaded, outputs)


def record(
    stage: Stage, evaluator: Evaluator, engines: Engines, judged: Judged, target: TargetFingerprint
) -> AccuracyResult:
    """Write tables, the result and the verdict; their sidecars name the engines and images that it comes from.

    Raises:
        DataError: FP32 knows too little to hold an engine against it.
    """
    settings, task, evaluations = stage.params.accuracy, evaluator.task, judged.evaluations
    if settings.require_signal:
        gate.require_signal(task, evaluations[Precision.fp32], evaluator.targets, settings.confidence)
    sealed = engines.to_judge()
    inputs = [*(engine.path for engine in sealed.values()), *evaluator.images.files]
    classes = _write_tables(stage, evaluator, evaluations, inputs, target)
    verdicts = gate.judge_all(task, evaluations, settings)
    not_judged = {**{precision: why.says() for precision, why in engines.missing.items()}, **judged.failed}
    found = AccuracyResult(
        _by_engine(task, evaluations, engines, settings.confidence),
        not_judged,
        gate.record(verdicts, settings, gate.figure_of(task, evaluations[Precision.fp32])),
        labels=evaluator.targets is not None,
        images=len(evaluator.images),
        shape=judged.shape,
        class_order=evaluator.images.class_order or None if evaluator.targets is not None else None,
        confidence=settings.confidence,
        origin=origin_of(sealed[Precision.fp32].made, target, evaluator.images.files),
    )
    stage.write_record(stage.paths.accuracy / "metrics.json", found, inputs, target)
    judgement = gate.judgement(task, verdicts, classes, settings, not_judged)
    stage.write_record(stage.paths.accuracy / "verdict.json", judgement, inputs, target)
    return found


def _by_engine(
    task: Task, evaluations: Mapping[Precision, Evaluation], engines: Engines, confidence: float
) -> dict[Precision, EngineAccuracy]:
    """The figures of each engine; of all but FP32 with the paired comparison with it."""
    fp32, sealed, found = evaluations[Precision.fp32].rows, engines.to_judge(), {}
    for precision, evaluation in evaluations.items():
        figures = task.summary(evaluation.rows, evaluation.classes)
        if precision is not Precision.fp32:
            figures.update(task.compare(evaluation.rows, fp32, confidence))
        stand_in = engines.stand_in if precision is Precision.fp32 else None
        made = sealed[precision].made
        found[precision] = EngineAccuracy(
            made.sha256,
            figures,
            difference_in(figures, [task.metric]),
            findings(made),
            None if stand_in is None else stand_in.runtime.name,
            dict(made.inputs),
        )
    return found


def findings(made: Manifest) -> tuple[str, ...]:
    """What its build found out about an engine, such as that less than half of it runs in INT8."""
    said = made.settings.get("findings", [])
    return tuple(map(str, said)) if isinstance(said, list) else ()


def _write_tables(
    stage: Stage,
    evaluator: Evaluator,
    evaluations: Mapping[Precision, Evaluation],
    inputs: list[Path],
    target: TargetFingerprint,
) -> pd.DataFrame:
    """Write every table, and return that of the classes; the others have a row an image, and are let go."""
    rows = {precision.value: evaluation.rows for precision, evaluation in evaluations.items()}
    tables = evaluator.task.tables(evaluator.images, rows, evaluations[Precision.fp32].classes)
    stage.tables(stage.paths.accuracy, tables, inputs, target=target, sealed="predictions.csv")
    return tables["classes.csv"]
