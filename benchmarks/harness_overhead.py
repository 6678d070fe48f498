"""What the benchmark's harness costs for each query: python -m benchmarks.harness_overhead

The null runtime answers at once, so what a query takes in a driver is the harness. A bare loop over the same engine and
the same images, with no clock and no record, runs in the same process, all in turns; a driver's time for a query less
the bare loop's is the harness's own part. Every scenario is driven as the stage benchmark_sustained drives it, by our
own driver and, where it can, by MLPerf LoadGen. LoadGen's Python binding makes an object of every image that is asked
for and reads one for every image that is answered: its cost of a query grows with the images in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.project_copy import write_result
from enginewright import manifest
from enginewright.benchmark import loadgen
from enginewright.benchmark.clock import NS, Interruption, garbage_collection_paused, now_ns
from enginewright.benchmark.percentiles import percentiles
from enginewright.benchmark.samples import Recorder, Samples
from enginewright.benchmark.schedule import LoadLimits, Offline, Scenario, Server, SingleStream
from enginewright.benchmark.system import EngineSystem
from enginewright.config import Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.interface import up_to
from enginewright.runtimes import runtime_named
from enginewright.runtimes.base import TimedEngine

GOAL_US = 20.0
IMAGES = 64
BATCHES = {"single_stream": 1, "multi_stream": 8, "offline": 32, "server": 1}
INTERFACE = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 1, 28, 28]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
}
AXES = {name: axis.to_dict() for name, axis in up_to(128).items()}
BEYOND_PER_S = 2e6  # arrivals of the server's ceiling: all are due before the harness can come to them
PACED_PER_S = 1000.0
LOADGEN_PER_S = 200_000.0  # expected of LoadGen: it prepares so many queries
Work = Callable[[float], float]  # seconds of load -> microseconds a query


def main() -> None:
    """Measure, write benchmarks/results/harness_overhead.json and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="how often all take turns")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn")
    arguments = parser.parse_args()
    runtime = runtime_named("null")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / runtime.engine_file
        path.write_text(json.dumps(INTERFACE))
        manifest.seal(path, "harness_overhead", [], runtime.fingerprint(), {"axes": AXES})
        with runtime.load(path) as engine:
            rows, lateness = measure(engine, arguments.rounds, arguments.seconds)
    above = [f"{row['scenario']} by {row['driver']}: {row['harness_us']} us" for row in rows if not row["within_goal"]]
    settings = {"runtime": "null", "rounds": arguments.rounds, "seconds_of_a_turn": arguments.seconds}
    result = {**settings, "goal_us": GOAL_US, "above_goal": above, "rows": rows, "server_lateness": lateness}
    if reason := loadgen.why_not("offline"):
        result["without_loadgen"] = reason
    write_result("harness_overhead", result)


def measure(engine: TimedEngine, rounds: int, seconds: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row for each scenario and driver; and how late the server's queries are issued at a rate that leaves the
    harness idle.
    """
    systems = {name: system(engine, batch) for name, batch in BATCHES.items()}
    works: dict[tuple[str, str], Work] = {}
    for name, under_test in systems.items():
        works[name, "bare"] = bare(engine, under_test)
        works[name, "own"] = driven(own(name), under_test, BATCHES[name])
        if not loadgen.why_not(name):
            works[name, "loadgen"] = by_loadgen(name, under_test, BATCHES[name])
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            taken[key].append(work(seconds))
    rows = [
        row(name, driver, taken[name, "bare"], times) for (name, driver), times in taken.items() if driver != "bare"
    ]
    waits = drive(Server(PACED_PER_S), systems["server"], 1, rounds * seconds).latency_seconds
    late = {f"latency_us_{name}": round(1e6 * value, 2) for name, value in percentiles(waits).items()}
    return rows, {"queries_per_s": PACED_PER_S, "queries": len(waits), **late}


def system(engine: TimedEngine, batch: int) -> EngineSystem:
    """Random images, as the stage feeds its real ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    images = ImageSet({"images": pixels}, None, (), tuple(map(str, range(IMAGES))), [])
    return EngineSystem(engine, Feeding(images, Preprocessing()), batch)


def own(name: str) -> Scenario:
    """Our driver of a scenario; the server at a rate that none could keep."""
    if name == "server":
        return Server(BEYOND_PER_S)
    return Offline() if name == "offline" else SingleStream(name)


def bare(engine: TimedEngine, under_test: EngineSystem) -> Work:
    """Nothing but the engine."""

    def work(seconds: float) -> float:
        feeds, infer, queries = [under_test.feeds(number) for number in range(IMAGES)], engine.infer, 0
        with garbage_collection_paused():
            start = now_ns()
            while now_ns() - start < seconds * NS:  # a look at the clock every thousand queries
                for number in range(1000):
                    infer(feeds[number % IMAGES])
                queries += 1000
            return (now_ns() - start) / queries / 1e3

    return work


def driven(scenario: Scenario, under_test: EngineSystem, batch: int) -> Work:
    """By our own driver. The server is given as many arrivals as it can answer in about that time, however late."""
    return lambda seconds: (
        1e6
        / drive(scenario, under_test, batch, seconds / 4 if scenario.name == "server" else seconds).queries_per_second
    )


def by_loadgen(name: str, under_test: EngineSystem, batch: int) -> Work:
    """By a new LoadGen each time, as a load of it can be run once; its own preparation before the first query is not
    counted.
    """
    return lambda seconds: (
        1e6 / drive(loadgen.LoadGen(name, batch, LOADGEN_PER_S / batch), under_test, batch, seconds).queries_per_second
    )


def drive(scenario: Scenario, under_test: EngineSystem, batch: int, seconds: float) -> Samples:
    """One turn."""
    recorder = Recorder(int(seconds * BEYOND_PER_S))
    with garbage_collection_paused():
        complete = scenario.drive(under_test, LoadLimits(seconds, Interruption()), recorder)
    return recorder.samples(batch, complete)


def row(name: str, driver: str, alone: list[float], times: list[float]) -> dict[str, Any]:
    """Medians over the turns, and the spread of the harness's part."""
    parts = [after - before for before, after in zip(alone, times)]
    middle = statistics.median(times)
    return {
        "scenario": name,
        "driver": driver,
        "batch": BATCHES[name],
        "bare_us": round(statistics.median(alone), 3),
        "driven_us": round(middle, 3),
        "harness_us": round(statistics.median(parts), 3),
        "harness_us_min": round(min(parts), 3),
        "harness_us_max": round(max(parts), 3),
        "harness_us_per_image": round(statistics.median(parts) / BATCHES[name], 3),
        "ceiling_queries_per_s": round(1e6 / middle),
        "ceiling_images_per_s": round(1e6 * BATCHES[name] / middle),
        "within_goal": statistics.median(parts) < GOAL_US,
    }


if __name__ == "__main__":
    main()
