"""benchmark_sustained: steady load on every engine, one after the other in one run; throughput, latency, drift,
batch-size curve.
"""

from __future__ import annotations

from enginewright import manifest
from enginewright.benchmark import report
from enginewright.benchmark.run import measure
from enginewright.data import Feeding, ImageSet
from enginewright.runtimes.built import open_engines
from enginewright.stage import Stage, script
from enginewright.target import read_target
from enginewright.views import benchmark as view, metrics


@script
def benchmark_sustained(stage: Stage) -> None:
    """Measure whole runs; after Ctrl-C the series so far are kept, and there are no metrics."""
    folder, target, settings = stage.paths.benchmark, read_target(stage.paths.target), stage.params.benchmark
    engines, images = open_engines(target, stage.paths), ImageSet.open(stage.paths.validation)
    with stage.device(target.device):
        feeding = Feeding(images, stage.params.data.preprocessing)
        run = measure(engines.built, feeding, settings, stage.params.model, target)
    result = report.result_of(run, engines, images.files, settings, target)
    made_from = [*engines.files, *images.files]
    sealed = report.SEALED if run.complete else None
    stage.tables(folder, report.tables(run.measured, run.telemetry), made_from, target=target, sealed=sealed)
    view.show(result, run.absent)
    if not run.complete:
        manifest.write_json(folder / "incomplete.json", metrics.of_speed(result))
        raise KeyboardInterrupt
    stage.write_record(folder / "metrics.json", result, made_from, target)
    stage.write_metrics(metrics.of_speed(result))


if __name__ == "__main__":
    benchmark_sustained()
