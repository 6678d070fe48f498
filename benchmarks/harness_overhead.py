"""What the benchmark's harness costs for each query: python benchmarks/harness_overhead.py

The null runtime answers at once, so what a query takes in the driver is the harness. A bare loop over the same engine, with no clock and no
record, runs in the same process, the two in turns; the difference of their medians is the harness's own part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from enginewright import manifest
from enginewright.benchmark.clock import NS, Interruption, garbage_collection_paused, now_ns
from enginewright.benchmark.samples import Recorder
from enginewright.benchmark.schedule import Plan, SingleStream
from enginewright.config import Build, RuntimeName
from enginewright.runtimes import runtime_named
from enginewright.runtimes.base import Engine
from enginewright.target import cpu_name

AIM_US = 20.0
INTERFACE = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": [None, 1, 28, 28]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": [None, 10]}],
}


def main() -> None:
    """Print microseconds a query, bare and in the driver, and the ceiling of throughput."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="how often the two take turns")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn")
    arguments = parser.parse_args()
    runtime = runtime_named(RuntimeName.null)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / runtime.engine_file
        path.write_text(json.dumps(INTERFACE))
        manifest.seal(path, "harness_overhead", [], runtime.fingerprint(Build()), {"profile": {"max": 128}})
        with runtime.load(path) as engine:
            turns = [(_bare_us(engine, arguments.seconds), _driven_us(engine, arguments.seconds)) for _ in range(arguments.rounds)]
    bare, driven = (statistics.median(column) for column in zip(*turns))
    overhead = [after - before for before, after in turns]
    print(f"{cpu_name()}, {arguments.rounds} turns of {arguments.seconds:g} s each, median")
    print(f"bare loop        {bare:7.3f} us a query (the null runtime's own answer)")
    print(f"in the driver    {driven:7.3f} us a query, so at most {1e6 / driven:,.0f} queries/s can be measured")
    print(f"harness          {statistics.median(overhead):7.3f} us a query (from {min(overhead):.3f} to {max(overhead):.3f}; aim: under {AIM_US:g})")


def _feeds() -> list[dict[str, np.ndarray]]:
    return [{"input": np.full((1, 1, 28, 28), index / 64, np.float32)} for index in range(64)]


def _bare_us(engine: Engine, seconds: float) -> float:
    feeds, infer, queries = _feeds(), engine.infer, 0
    with garbage_collection_paused():
        start = now_ns()
        while now_ns() - start < seconds * NS:  # a look at the clock every thousand queries
            for number in range(1000):
                infer(feeds[number % 64])
            queries += 1000
        return (now_ns() - start) / queries / 1e3


class _System:
    def __init__(self, engine: Engine) -> None:
        self._feeds, self._engine = _feeds(), engine

    def answer(self, number: int, count: int = 1) -> object:
        del count
        return self._engine.infer(self._feeds[number % 64])

    def answer_all(self, numbers: Iterable[int]) -> Iterator[object]:
        return self._engine.infer_many(self._feeds[number % 64] for number in numbers)


def _driven_us(engine: Engine, seconds: float) -> float:
    recorder = Recorder(int(seconds * 1e6))
    with garbage_collection_paused():
        SingleStream().drive(_System(engine), Plan(seconds, Interruption()), recorder)
    return 1e6 / recorder.samples(1, True).queries_per_second


if __name__ == "__main__":
    main()
