"""What validate_accuracy does: all engines over all images, then tables, metrics and the verdict that `gate` reads."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from enginewright import manifest
from enginewright.accuracy import gate, report
from enginewright.accuracy.evaluate import Evaluator, Judged
from enginewright.config import Precision
from enginewright.errors import RuntimeUnavailable
from enginewright.results import STANDS_IN
from enginewright.runtimes.built import Engines, SealedEngine
from enginewright.stage import Stage
from enginewright.target import TargetFingerprint
from enginewright.tasks.base import Evaluation

if TYPE_CHECKING:
    import pandas as pd

OUT_OF_MEMORY = (RuntimeUnavailable, MemoryError)  # what an engine raises that finds no room beside the others


def evaluate_all(evaluator: Evaluator, engines: Mapping[Precision, SealedEngine], output_name: str) -> Judged:
    """Judge engines against FP32, all of them loaded at once; where the device has no room for that, one beside FP32.

    `engines` has FP32 first. Raises as `Evaluator.side_by_side` does, and RuntimeUnavailable or MemoryError where not
    even two engines fit.
    """
    try:
        return _together(evaluator, engines, output_name)
    except OUT_OF_MEMORY as fault:
        if len(engines) <= 2:  # FP32 and one
            raise
        print(f"the engines do not fit together ({fault}); each goes over the images beside FP32", file=sys.stderr)
    evaluations: dict[Precision, Evaluation] = {}
    failed: dict[Precision, str] = {}
    for precision, engine in list(engines.items())[1:]:
        pair = {Precision.fp32: engines[Precision.fp32], precision: engine}
        found = _together(evaluator, pair, output_name)
        evaluations.update(found.evaluations)
        failed.update(found.failed)
    return Judged(evaluations, failed)


def _together(evaluator: Evaluator, engines: Mapping[Precision, SealedEngine], output_name: str) -> Judged:
    with contextlib.ExitStack() as stack:
        loaded = {precision: stack.enter_context(engine.load()) for precision, engine in engines.items()}
        return evaluator.side_by_side(loaded, output_name)


def record(stage: Stage, evaluator: Evaluator, engines: Engines, judged: Judged, target: TargetFingerprint) -> None:
    """Write and print all of it; the sidecars name the engines and the images that it comes from.

    Raises:
        DataError: FP32 knows too little to hold an engine against it.
    """
    settings, task, evaluations = stage.params.accuracy, evaluator.task, judged.evaluations
    fp32 = evaluations[Precision.fp32]
    if settings.require_signal:
        gate.require_signal(task, fp32, evaluator.targets, settings.confidence)
    sealed = engines.to_judge()
    inputs = [*(engine.path for engine in sealed.values()), *evaluator.images.files]
    classes = _write_tables(stage, evaluator, evaluations, inputs, target)
    manifests = {precision: sealed[precision].made for precision in evaluations}
    verdicts = gate.judge_all(task, evaluations, settings)
    not_judged = {**{precision: why.says() for precision, why in engines.missing.items()}, **judged.failed}
    figures = report.precision_metrics(task, evaluations, manifests, settings.confidence)
    if engines.stand_in is not None:
        figures[Precision.fp32.value][STANDS_IN] = engines.stand_in.runtime.name
    metrics = {
        **figures,
        **({"not_judged": {precision.value: why for precision, why in not_judged.items()}} if not_judged else {}),
        "gate": gate.record(verdicts, settings, gate.figure_of(task, fp32)).to_json(),
        "labels": evaluator.targets is not None,
        "images": len(evaluator.images),
        "confidence": settings.confidence,
        **manifest.record(manifests[Precision.fp32], evaluator.images.files),
        "target": target.identity(),
    }
    stage.write_metrics(metrics)
    stage.seal_metrics(stage.paths.accuracy / "metrics.json", metrics, inputs, target)
    judgement = gate.judgement(task, verdicts, classes, settings, not_judged)
    with stage.output(stage.paths.accuracy / "verdict.json", inputs, target) as temporary:
        manifest.write_json(temporary, judgement.to_json())
    report.show(task, metrics, manifests, verdicts)


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
