"""pareto: accuracy against throughput of the engines, and the fastest that passes the gate."""

from __future__ import annotations

import json

from enginewright import manifest, pareto as front
from enginewright.stage import Metrics, Stage, script


@script
def pareto(stage: Stage) -> Metrics:
    """Reads the metrics of both stages; nothing is measured here."""
    from rich.console import Console

    accuracy, benchmark = (folder / "metrics.json" for folder in (stage.paths.accuracy, stage.paths.benchmark))
    for path in (accuracy, benchmark):
        manifest.verify(path)
    calibration = front.calibration_name(stage.params.calibration, stage.params.data)
    table = front.table(json.loads(accuracy.read_text()), json.loads(benchmark.read_text()), calibration)
    with stage.output(stage.paths.pareto, [accuracy, benchmark]) as temporary:
        table.to_csv(temporary, index=False)
    front.show(table, Console())
    return front.metrics(table)


if __name__ == "__main__":
    pareto()
