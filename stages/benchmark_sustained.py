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
from enginewright.runtimes import built_engines
from enginewright.runtimes.checked import require_engines
from enginewright.stage import Stage, script
from enginewright.target import read_target


@script
def benchmark_sustained(stage: Stage) -> None:
    """After Ctrl-C the series so far are kept, apart from the metrics, which stand for whole runs alone."""
    settings, target = stage.params.benchmark, read_target(stage.paths.target)
    runtime, engines = built_engines(target, stage.paths)
    images = ImageSet.open(stage.paths.validation)
    manifests = {precision.value: made for precision, made in require_engines(engines, target).items()}

    measured = {}
    gpu = target.device if target.compute_capability else None
    with stage.device(target.device), Observer(gpu) as observer, Interruption() as interruption:
        feeding = Feeding(images, stage.params.data.preprocessing)
        bench = Bench(feeding, settings, interruption=interruption, observer=observer)
        for precision, path in engines.items():
            resident = rss_mib()
            with runtime.load(path) as engine:
                measured[precision.value] = bench.measure(engine, precision.value, resident)
            if not measured[precision.value].complete:
                break
        observer.close()
        telemetry = observer.table()

    complete = len(measured) == len(engines) and all(measurement.complete for measurement in measured.values())
    found = report.metrics(measured, manifests, telemetry, settings, target)
    record = manifest.record(manifests["fp32"], images.files)
    metrics = {**found, **record, "device_state": observer.device_state, "complete": complete}
    *others, (last, windows) = report.tables(measured, telemetry).items()
    for name, table in others:
        with manifest.replacing(stage.paths.benchmark / name) as temporary:
            table.to_csv(temporary, index=False)
    report.show(metrics, measured, observer.absent)
    if not complete:
        windows.to_csv(stage.paths.benchmark / last, index=False)
        manifest.write_json(stage.paths.benchmark / "incomplete.json", metrics)
        raise KeyboardInterrupt
    # Last, and sealed: its sidecar names the engines and the images that all the series come from.
    with stage.output(stage.paths.benchmark / last, [*engines.values(), *images.files], target) as temporary:
        windows.to_csv(temporary, index=False)
    stage.seal_metrics(stage.paths.benchmark / "metrics.json", metrics, [*engines.values(), *images.files], target)
    stage.write_metrics(metrics)


if __name__ == "__main__":
    benchmark_sustained()
