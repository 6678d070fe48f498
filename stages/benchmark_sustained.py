"""benchmark_sustained: steady load on every engine, one after the other in one run; throughput, latency, drift,
batch-size curve.
"""

from __future__ import annotations

from enginewright import manifest
from enginewright.benchmark import report
from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.load import Bench
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.telemetry import rss_mib
from enginewright.data import Feeding, ImageSet
from enginewright.runtimes.built import open_engines
from enginewright.stage import Stage, script
from enginewright.target import read_target


@script
def benchmark_sustained(stage: Stage) -> None:
    """After Ctrl-C the series so far are kept, apart from the metrics, which stand for whole runs alone."""
    settings, target = stage.params.benchmark, read_target(stage.paths.target)
    engines = open_engines(target, stage.paths)
    images = ImageSet.open(stage.paths.validation)
    manifests = {precision.value: made for precision, made in engines.manifests.items()}

    measured = {}
    gpu = target.device if target.compute_capability else None
    with stage.device(target.device), Observer(gpu) as observer, Interruption() as interruption:
        feeding = Feeding(images, stage.params.data.preprocessing)
        bench = Bench(feeding, settings, interruption=interruption, observer=observer)
        for precision, sealed in engines.built.items():
            resident = rss_mib()
            with sealed.load() as engine:
                measured[precision.value] = bench.measure(engine, precision.value, resident)
            if not measured[precision.value].complete:
                break
        observer.close()
        telemetry = observer.table()

    complete = len(measured) == len(engines.built) and all(measurement.complete for measurement in measured.values())
    found = report.metrics(measured, manifests, telemetry, settings, target)
    record = manifest.record(next(iter(manifests.values())), images.files)
    metrics = {**found, **record, "device_state": observer.device_state, "complete": complete}
    tables, made_from = report.tables(measured, telemetry), [*engines.files, *images.files]
    report.show(metrics, measured, observer.absent)
    stage.tables(stage.paths.benchmark, tables, made_from, target=target, sealed="windows.csv" if complete else None)
    if not complete:
        manifest.write_json(stage.paths.benchmark / "incomplete.json", metrics)
        raise KeyboardInterrupt
    stage.seal_metrics(stage.paths.benchmark / "metrics.json", metrics, made_from, target)
    stage.write_metrics(metrics)


if __name__ == "__main__":
    benchmark_sustained()
