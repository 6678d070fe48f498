"""A load that is disturbed while it runs, from the engine to the metrics: what disturbed it is named with its seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from enginewright.benchmark import report
from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.load import Bench, Measurement
from enginewright.benchmark.observer import Observer
from enginewright.config import Benchmark, Driver, Preprocessing, ScenarioName
from enginewright.data import ImageSet
from enginewright.manifest import Manifest
from enginewright.runtimes.base import Array, TensorSpec
from enginewright.runtimes.null import NullEngine
from enginewright.target import TargetFingerprint

SECONDS, WINDOW, ASLEEP = 3.0, 0.2, 0.7
ORPHAN = "import subprocess as s, sys; print(s.Popen([sys.executable, '-c', 'while True: pass'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"


class Sleepy(NullEngine):
    """Takes a millisecond a query, and once, in the middle of the load, ASLEEP seconds."""

    def __init__(self) -> None:
        super().__init__([TensorSpec("input", np.dtype(np.float32), (None, 1, 28, 28))], [TensorSpec("logits", np.dtype(np.float32), (None, 10))], 8)
        self.sleep_from = time.monotonic() + SECONDS / 2
        self.slept = False

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        asleep = not self.slept and time.monotonic() > self.sleep_from
        self.slept |= asleep
        time.sleep(ASLEEP if asleep else 1e-3)
        return super().infer(feeds)

    def device_seconds(self, feeds: Mapping[str, Array], repeats: int) -> npt.NDArray[np.float64]:
        del feeds
        return np.full(repeats, 1e-3)


Disturbed = tuple[dict[str, Any], Measurement, int]


@pytest.fixture(scope="module")
def disturbed() -> Disturbed:
    """Metrics of a load beside which another process computes and in which the runtime sleeps; what was measured; the other's process number."""
    # An orphan: a child of this process would count as the measured process's own.
    pid = int(subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True).stdout)
    settings = Benchmark([ScenarioName.single_stream], Driver.own, SECONDS, warmup_seconds=0.01, window_seconds=WINDOW, batch_curve=[])
    images = ImageSet(np.zeros((4, 28, 28, 1), np.uint8), None, (), tuple("abcd"), [])
    try:
        with Observer(None) as observer, Interruption() as interruption:
            bench = Bench(images, Preprocessing(), settings, interruption=interruption, observer=observer)
            measured = {"fp32": bench.measure(Sleepy(), "fp32", 1.0)}
            observer.close()
            telemetry = observer.table()
    finally:
        os.kill(pid, 9)
    manifests = {"fp32": Manifest(sha256="0" * 64, made_by="build_fp32", inputs={}, target=None)}
    return report.metrics(measured, manifests, telemetry, settings, TargetFingerprint("Test CPU", None, "null", "1")), measured["fp32"], pid


def test_a_sleep_in_the_runtime_makes_the_load_unstable_and_its_window_is_named(disturbed: Disturbed) -> None:
    metrics, measured, _ = disturbed
    figures, samples = metrics["fp32"]["single_stream"], measured.loads["single_stream"].samples
    longest = int(np.argmax(samples.latency_seconds))
    assert samples.latency_seconds[longest] >= ASLEEP
    start, end = ((moment - samples.due_ns[0]) / 1e9 for moment in (samples.due_ns[longest], samples.completed_ns[longest]))
    assert figures["stable"] is False
    named = figures["stability"].split("the slowest, ")[1].split(" s,")[0].split("-")
    assert start - WINDOW <= float(named[0]) < float(named[1]) <= end + WINDOW
    assert figures["throughput_images_per_s_slowest_window"] == 0
    assert figures["latency_ms_max"] >= 1e3 * ASLEEP


def test_a_competing_process_is_named_in_the_metrics(disturbed: Disturbed) -> None:
    metrics, _, pid = disturbed
    assert f"(process {pid}), up to " in metrics["fp32"]["single_stream"]["other_processes"]


def test_the_totals_are_the_sum_of_the_windows(disturbed: Disturbed) -> None:
    metrics, measured, _ = disturbed
    figures, load = metrics["fp32"]["single_stream"], measured.loads["single_stream"]
    assert load.windows["queries"].sum() == len(load.samples) == figures["queries"]
    assert figures["throughput_images_per_s"] == pytest.approx(figures["queries"] / figures["seconds"])
