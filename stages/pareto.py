"""pareto: accuracy against throughput of the engines, and the fastest that passes the gate."""

from __future__ import annotations

from enginewright import manifest, pareto as front
from enginewright.results.accuracy import AccuracyResult
from enginewright.results.speed import SpeedResult
from enginewright.stage import Metrics, Stage, script
from enginewright.views import metrics, pareto as view


@script
def pareto(stage: Stage) -> Metrics:
    """Put the results of both stages side by side; nothing is measured here."""
    accuracy, speed = (folder / "metrics.json" for folder in (stage.paths.accuracy, stage.paths.benchmark))
    for path in (accuracy, speed):
        manifest.verify(path)
    calibration = front.calibration_name(stage.params.calibration, stage.params.data)
    found = front.compare(
        AccuracyResult.read(accuracy, "validate_accuracy"), SpeedResult.read(speed, "benchmark_sustained"), calibration
    )
    with stage.output(stage.paths.pareto, [accuracy, speed]) as temporary:
        front.table(found).to_csv(temporary, index=False)
    view.show(found)
    return metrics.of_pareto(found)


if __name__ == "__main__":
    pareto()
