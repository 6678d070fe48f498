"""pareto: accuracy against throughput of the engines, and the fastest that passes the gate."""

from __future__ import annotations

import json

from enginewright import manifest, pareto as front
from enginewright.stage import Metrics, Stage, script
from enginewright.views import pareto as view


@script
def pareto(stage: Stage) -> Metrics:
    """Put the metrics of both stages side by side; nothing is measured here."""
    accuracy, benchmark = (folder / "metrics.json" for folder in (stage.paths.accuracy, stage.paths.benchmark))
    for path in (accuracy, benchmark):
        manifest.verify(path)
    calibration = front.calibration_name(stage.params.calibration, stage.params.data)
    table = front.table(json.loads(accuracy.read_text()), json.loads(benchmark.read_text()), calibration)
    with stage.output(stage.paths.pareto, [accuracy, benchmark]) as temporary:
        table.to_csv(temporary, index=False)
    view.show(table)
    return front.metrics(table)


if __name__ == "__main__":
    pareto()
