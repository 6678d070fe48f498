"""Our own driver against MLPerf LoadGen on one engine: python -m benchmarks.loadgen_agreement

The reference model in ONNX Runtime, FP32, at its own size and at that of photographs, in alternating turns: own,
LoadGen, own, LoadGen, ... so that a drift of the machine hits both. "loadgen" is LoadGen's own log, which it takes by
its own clock around its call into Python; "recorded" is what we report of the same LoadGen run, taken inside of that
call. Between the two lies LoadGen's Python binding, and nothing else. A wrapper counts the images that the engine is
really given, and the benchmark fails unless it is as many as each driver says.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.int8_speed import models
from benchmarks.project_copy import write_result
from enginewright import manifest
from enginewright.benchmark import loadgen
from enginewright.benchmark.clock import Interruption, garbage_collection_paused
from enginewright.benchmark.percentiles import percentiles
from enginewright.benchmark.samples import Recorder, Samples
from enginewright.benchmark.schedule import LoadLimits, Offline, Scenario, SingleStream
from enginewright.benchmark.system import EngineSystem
from enginewright.config import Build, Export, Input, Model, Precision, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.feeds import Feeds
from enginewright.importers.pytorch import to_onnx
from enginewright.runtimes.base import BuildJob, TimedEngine
from enginewright.runtimes.batches import overlapped
from enginewright.runtimes.onnxruntime import RUNTIME

GOAL = 0.03
SIZES = (28, 224)
BATCHES = {"single_stream": 1, "offline": 32}
LEAST = {"single_stream": 100, "offline": 4}  # queries of a turn: the p99 is of 100 or more
OWN: dict[str, Scenario] = {"single_stream": SingleStream(), "offline": Offline()}
IMAGES = 64
Figures = dict[str, float]
Turn = dict[str, Figures]  # by source: own, loadgen, recorded


@dataclass
class Counting:
    """An engine that counts the images that it is given."""

    engine: TimedEngine
    images: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def infer(self, feeds: Feeds) -> dict[str, Any]:
        """One batch."""
        answer = self.engine.infer(feeds)
        with self.lock:  # offline has two batches under way, a thread each
            self.images += len(next(iter(feeds.values())))
        return answer

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[dict[str, Any]]:
        """As the engine itself does it."""
        return overlapped(self.infer, batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def main() -> None:
    """Measure, write benchmarks/results/loadgen_agreement.json and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=6, help="of each driver and scenario")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    arguments = parser.parse_args()
    if reason := loadgen.why_not("offline"):
        sys.exit(reason)
    found = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, reference_engine(Path(folder), size) as engine:
            for scenario in BATCHES:
                found[f"{size} x {size}, {scenario}"] = compare(
                    Counting(engine), size, scenario, arguments.turns, arguments.seconds
                )
    differing = [
        f"{where}: {name}"
        for where, figures in found.items()
        for name, figure in figures.items()
        if figure["verdict"] == "differs"
    ]
    settings = {
        "turns": arguments.turns,
        "seconds_of_a_turn": arguments.seconds,
        "engine": "resnet_reference, ONNX Runtime, FP32",
        "batches": BATCHES,
    }
    write_result(
        "loadgen_agreement",
        {"status": loadgen.UNOFFICIAL, **settings, "goal": GOAL, "differing": differing, "figures": found},
    )


def reference_engine(folder: Path, size: int) -> TimedEngine:
    """The reference model as the pipeline builds it; speed does not depend on its weights, which are random."""
    _, network, _ = next(models())
    onnx_model = folder / "model.onnx"
    onnx_model.write_bytes(
        to_onnx(network.eval(), Model(inputs={"input": Input(["batch", 1, size, size])}, outputs=["logits"]), Export())
    )
    path = folder / RUNTIME.engine_file
    built = RUNTIME.build(onnx_model, BuildJob(Precision.fp32, Build(), None))
    path.write_bytes(built.engine_bytes)
    manifest.seal(path, "benchmark", [onnx_model], RUNTIME.fingerprint(), built.settings)
    return RUNTIME.load(path)


def compare(engine: Counting, size: int, name: str, turns: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Both drivers in turns; what `agreement` says of each figure."""
    batch = BATCHES[name]
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 1), np.uint8)
    images = ImageSet({"images": pixels}, None, (), tuple(map(str, range(IMAGES))), [])
    feeding = Feeding(images, Preprocessing(size=[size, size], mean=[0.5], std=[0.5]))
    system = EngineSystem(cast(TimedEngine, engine), feeding, batch)
    expected = drive(OWN[name], system, engine, batch, min(2.0, seconds)).queries_per_second
    found: list[Turn] = []
    for _ in range(turns):
        own = drive(OWN[name], system, engine, batch, seconds)
        theirs = loadgen.LoadGen(name, batch, expected)
        recorded = drive(theirs, system, engine, batch, seconds)
        found.append(
            {
                "own": of_record(name, own),
                "loadgen": of_log(name, theirs.summary),
                "recorded": of_record(name, recorded),
            }
        )
    return {
        figure: agreement([{source: figures[figure] for source, figures in turn.items()} for turn in found])
        for figure in found[0]["own"]
    }


def drive(scenario: Scenario, system: EngineSystem, engine: Counting, batch: int, seconds: float) -> Samples:
    """One turn. Exits if the engine was not given what the driver says that it answered."""
    before, recorder = engine.images, Recorder(1 << 20)
    with garbage_collection_paused():
        complete = scenario.drive(system, LoadLimits(seconds, Interruption(), LEAST[scenario.name]), recorder)
    samples = recorder.samples(batch, complete)
    if engine.images - before != batch * len(samples):
        sys.exit(f"{scenario.name}: {batch * len(samples)} images were recorded and {engine.images - before} computed")
    return samples


def of_record(name: str, samples: Samples) -> Figures:
    """Of our own record, under the names of the comparison."""
    if name == "offline":
        return {"throughput_images_per_s": samples.images_per_second}
    found = percentiles(samples.latency_seconds)
    return {
        "throughput_queries_per_s": samples.queries_per_second,
        "latency_ms_p50": 1e3 * found["p50"],
        "latency_ms_p99": 1e3 * found["p99"],
    }


def of_log(name: str, summary: Mapping[str, Any]) -> Figures:
    """Of LoadGen's log. Its "Samples per second" of offline counts images; of single_stream it gives no rate but this
    one: one query at a time.
    """
    if name == "offline":
        return {"throughput_images_per_s": float(summary["samples_per_s"])}
    mean = float(summary["latency_ms_mean"])
    return {
        "throughput_queries_per_s": 1e3 / mean,
        "latency_ms_p50": float(summary["latency_ms_p50"]),
        "latency_ms_p99": float(summary["latency_ms_p99"]),
    }


def agreement(turns: list[dict[str, float]]) -> dict[str, Any]:
    """Medians by source, the difference from and ratio to our driver's turn by turn, and how far our driver's turns
    differ among themselves.

    The verdict is "agrees" within GOAL, "not told apart" beyond it where our own turns spread as far (a longer or
    quieter run is needed), else "differs".
    """
    columns = {source: [turn[source] for turn in turns] for source in turns[0]}
    own = columns.pop("own")
    spread = (max(own) - min(own)) / statistics.median(own)
    found: dict[str, Any] = {"own": round(statistics.median(own), 4), "own_spread": round(spread, 4)}
    for source, values in columns.items():
        ratios = [value / ours for value, ours in zip(values, own)]
        found[source] = round(statistics.median(values), 4)
        found[f"{source}_minus_own"] = round(statistics.median(value - ours for value, ours in zip(values, own)), 4)
        found[f"{source}_to_own"] = {
            "median": round(statistics.median(ratios), 4),
            "min": round(min(ratios), 4),
            "max": round(max(ratios), 4),
        }
    off = abs(found["loadgen_to_own"]["median"] - 1)
    return {**found, "verdict": "agrees" if off <= GOAL else "not told apart" if off <= spread else "differs"}


if __name__ == "__main__":
    main()
