"""ResNet-50 under steady offline load on the GPU, with telemetry; then its batch-size curve and its layers.

Run: python -m benchmarks.gpu.sustained load PRECISION SECONDS, or curve; after `python -m benchmarks.gpu.resnet50_int8
engines` on the same machine. The very code of the stage benchmark_sustained does the measuring.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from benchmarks.gpu.common import OUT, Report, machine
from benchmarks.gpu.measure import MADE, PREPROCESSING, WORK, gpu_state, open_engine
from benchmarks.gpu.resnet50_int8 import RATES, engine_path
from enginewright.benchmark import report as benchmark_report
from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.curve import knee
from enginewright.benchmark.load import Bench
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.run import Run
from enginewright.benchmark.telemetry import rss_mib
from enginewright.config import Benchmark, Driver, Model, ScenarioName
from enginewright.data import Feeding, ImageSet
from enginewright.data.recipes import IMAGES
from enginewright.manifest import read
from enginewright.runtimes.built import origin_of
from enginewright.runtimes.tensorrt import RUNTIME
from enginewright.views import benchmark as benchmark_view
from enginewright.views.metrics import of_speed

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
PREPROCESSED = PREPROCESSING["resnet50"]
PRECISIONS = ("int8", "fp16")


def photographs() -> ImageSet:
    """The 96 of them."""
    pixels = np.load(MADE / "images.npz")["validation"]
    return ImageSet({IMAGES: pixels}, None, (), tuple(map(str, range(len(pixels)))), [])


def bench(benchmark: Benchmark, interruption: Interruption, observer: Observer) -> Bench:
    """The stage's own, over the photographs."""
    feeding = Feeding(photographs(), PREPROCESSED)
    return Bench(feeding, benchmark, Model(), interruption=interruption, observer=observer)


def load_options(name: str) -> dict[str, Any]:
    """The number of contexts that was faster with copies."""
    if not RATES.exists():
        return {}
    contexts = int(json.loads(RATES.read_text()).get(name, {}).get("contexts", 1))
    return {"contexts": contexts, "depth": 2 + contexts}


def load(name: str, seconds: float) -> dict[str, Any]:
    """Offline at batch 256 for so many seconds; series as CSV."""
    target = RUNTIME.fingerprint()
    window = 10.0 if seconds >= 120 else seconds / 12
    benchmark = Benchmark(
        [ScenarioName.offline],
        Driver.own,
        seconds,
        warmup_seconds=min(5.0, seconds),
        window_seconds=window,
        batch_size=256,
        batch_curve=[],
    )
    with (
        Observer(target.device) as observer,
        Interruption() as interruption,
        open_engine(engine_path(name), **load_options(name)) as engine,
    ):
        measured = {name: bench(benchmark, interruption, observer).measure(engine, name, rss_mib())}
        state = engine.state()
        observer.close()
        telemetry = observer.table()
    made = read(engine_path(name))
    run = Run(measured, telemetry, observer.device_state, observer.absent, measured[name].complete)
    result = benchmark_report.result(run, {name: made}, benchmark, origin_of(made, target))
    metrics = {
        **of_speed(result),
        "engine_state": state,
        "gpu_after": gpu_state(),
        "telemetry_note": observer.absent,
    }
    for file, table in benchmark_report.tables(measured, telemetry).items():
        table.to_csv(OUT / f"sustained_{name}_{file}", index=False)
    benchmark_view.show(result, observer.absent)
    return metrics


def curve(name: str) -> dict[str, Any]:
    """Throughput and latency at every batch up to 1,024, the knee, and where the time of a batch of 256 goes."""
    target = RUNTIME.fingerprint()
    benchmark = Benchmark([ScenarioName.offline], Driver.own, batch_curve=BATCHES, batch_curve_seconds=1.0)
    with Observer(target.device) as observer, Interruption() as interruption:
        with open_engine(engine_path(name), **load_options(name)) as engine:
            found = bench(benchmark, interruption, observer).batch_curve(engine, name)
        observer.close()
    found.to_csv(OUT / f"batch_curve_{name}.csv", index=False)
    print(found.to_string(), flush=True)
    return {**knee(found), "rows": found.to_dict("records")}


def layers(name: str) -> list[dict[str, Any]]:
    """Every layer at batch 256, slowest first."""
    with open_engine(engine_path(name)) as engine:
        (spec,) = engine.interface.inputs
        times = engine.layer_times({"input": np.zeros((256, 3, 224, 224), spec.dtype)}, 20)
    total = sum(layer.milliseconds for layer in times)
    ordered = sorted(times, key=lambda layer: -layer.milliseconds)
    return [
        {
            "layer": layer.name[:120],
            "ms": round(layer.milliseconds, 5),
            "share": round(layer.milliseconds / total, 5),
            "precision": layer.precision,
        }
        for layer in ordered
    ]


def main(part: str, *arguments: str) -> int:
    """Run one part."""
    if part == "load":
        name, seconds = arguments[0], float(arguments[1])
        report = Report(f"sustained_{name}_{seconds:.0f}s", 600)
        report.step("machine", lambda: {**machine(), "gpu": gpu_state()})
        report.step("offline", lambda: load(name, seconds))
    else:
        report = Report("batch_curve", 600)
        report.step("machine", lambda: {**machine(), "gpu": gpu_state()})
        for name in PRECISIONS:
            report.step(f"curve {name}", lambda name=name: curve(name))  # type: ignore[misc]
            report.step(f"layers {name}", lambda name=name: layers(name))  # type: ignore[misc]
    print("sustained", part, "failed:", report.failed() or "nothing", WORK, flush=True)
    return 1 if report.failed() else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
