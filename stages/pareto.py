"""pareto: accuracy against throughput of the engines, and the fastest that passes the gate."""

from __future__ import annotations

import json

from enginewright import artifacts, manifest
from enginewright import pareto as front
from enginewright.stage import Metrics, Stage, script

ACCURACY, BENCHMARK = (folder / "metrics.json" for folder in (artifacts.ACCURACY, artifacts.BENCHMARK))


@script
def pareto(stage: Stage) -> Metrics:
    """Reads the metrics of both stages; nothing is measured here."""
    from rich.console import Console

    for path in (ACCURACY, BENCHMARK):
        manifest.verify(path)
    calibration = front.calibration_name(stage.params.calibration, stage.params.data)
    table = front.table(json.loads(ACCURACY.read_text()), json.loads(BENCHMARK.read_text()), calibration)
    with stage.output(artifacts.PARETO, [ACCURACY, BENCHMARK]) as temporary:
        table.to_csv(temporary, index=False)
    front.show(table, Console())
    return front.metrics(table)


if __name__ == "__main__":
    pareto()
