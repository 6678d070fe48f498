"""validate_accuracy: every engine over the whole validation set, compared with FP32 image by image, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from enginewright import manifest, results
from enginewright.accuracy import gate, report
from enginewright.accuracy.evaluate import Evaluator
from enginewright.config import Precision
from enginewright.data import ImageSet
from enginewright.runtimes.built import open_engines
from enginewright.stage import Stage, script
from enginewright.target import TargetFingerprint, read_target
from enginewright.tasks import get_task
from enginewright.tasks.base import Evaluation

if TYPE_CHECKING:
    import pandas as pd


@script
def validate_accuracy(stage: Stage) -> None:
    """Record tables, metrics and the verdict on each engine; `gate` is the stage that fails."""
    settings, target, task = stage.params.accuracy, read_target(stage.paths.target), get_task(stage.params.model.task)
    engines = open_engines(target, stage.paths)
    judged = engines.to_judge()
    images = ImageSet.open(stage.paths.validation)
    evaluator = Evaluator(task, images, stage.params.data.preprocessing, settings.batch_size)
    manifests = {precision: sealed.made for precision, sealed in judged.items()}

    evaluations, reference = {}, None
    with stage.device(target.device):
        for precision, sealed in judged.items():  # FP32 comes first
            with sealed.load() as engine:
                evaluations[precision] = evaluator.evaluate(
                    engine, precision, stage.params.model.output_name, reference
                )
            if precision is Precision.fp32:
                reference = evaluations[precision].outputs
                if settings.require_signal:
                    gate.require_signal(task, evaluations[precision], evaluator.targets, settings.confidence)

    inputs = [*(sealed.path for sealed in judged.values()), *images.files]
    classes = _write_tables(stage, evaluator, evaluations, inputs, target)
    figures = report.precision_metrics(task, evaluations, manifests, settings.confidence)
    if engines.stand_in is not None:
        figures[Precision.fp32.value][results.STANDS_IN] = engines.stand_in.runtime.name
    verdicts = gate.judge_all(task, evaluations, settings)
    metrics = {
        **figures,
        **({"missing": {name.value: why.says() for name, why in engines.missing.items()}} if engines.missing else {}),
        "gate": gate.metrics(verdicts, settings, gate.figure_of(task, evaluations[Precision.fp32])),
        "labels": evaluator.targets is not None,
        "images": len(images),
        "confidence": settings.confidence,
        **manifest.record(manifests[Precision.fp32], images.files),
        "target": target.identity(),
    }
    stage.write_metrics(metrics)
    stage.seal_metrics(stage.paths.accuracy / "metrics.json", metrics, inputs, target)
    judgement = gate.judgement(task, verdicts, classes, settings, engines.missing)
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
    """Write every table, and return that of the classes."""
    rows = {precision.value: evaluation.rows for precision, evaluation in evaluations.items()}
    tables = evaluator.task.tables(evaluator.images, rows, evaluations[Precision.fp32].classes)
    stage.tables(stage.paths.accuracy, tables, inputs, target=target, sealed="predictions.csv")
    return tables["classes.csv"]


if __name__ == "__main__":
    validate_accuracy()
