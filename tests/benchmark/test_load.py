"""A load that is disturbed while it runs, from the engine to the metrics: what disturbed it is named with its
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from enginewright.benchmark import report
from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.load import Bench, Measurement
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.run import Run
from enginewright.config import Benchmark, Driver, Model, Preprocessing, ScenarioName
from enginewright.data import Feeding, ImageSet
from enginewright.feeds import Array
from enginewright.interface import Interface, TensorSpec, up_to
from enginewright.manifest import Manifest
from enginewright.results.origin import Origin
from enginewright.runtimes.null.engine import NullEngine
from enginewright.target import TargetFingerprint
from enginewright.views.metrics import of_speed
from support.neighbours import competing, observed
from support.waiting import Clock, until

SECONDS, WINDOW, ASLEEP = 3.0, 0.2, 0.7


class Disturbed(NullEngine):
    """Does something at each query: by a clock that does not depend on the machine, or once to wait for an event."""

    def __init__(self, at_query: Callable[[], None]) -> None:
        super().__init__(
            Interface(
                (TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28)),),
                (TensorSpec("logits", np.dtype(np.float32), ("batch", 10)),),
            ),
            up_to(8),
        )
        self.at_query = at_query

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.at_query()
        return super().infer(feeds)

    def device_seconds(self, feeds: Mapping[str, Array], repeats: int) -> npt.NDArray[np.float64]:
        del feeds
        return np.full(repeats, 1e-3)


class Unwatched(Observer):
    """Nobody looks: what is measured by a clock of its own has no telemetry."""

    def __init__(self) -> None:
        super().__init__(None)

    def phase(self, precision: str, phase: str, seconds: float) -> None:
        del precision, phase, seconds


def measure(
    observer: Observer, at_query: Callable[[], None], seconds: float, whole_seconds: float = 0.5
) -> tuple[Benchmark, Measurement]:
    settings = Benchmark(
        [ScenarioName.single_stream],
        Driver.own,
        seconds,
        warmup_seconds=0.01,
        window_seconds=WINDOW,
        batch_curve=[],
        whole_seconds=whole_seconds,
    )
    images = ImageSet({"images": np.zeros((4, 28, 28, 1), np.uint8)}, None, (), tuple("abcd"), [])
    with Interruption() as interruption:
        bench = Bench(Feeding(images, Preprocessing()), settings, Model(), interruption=interruption, observer=observer)
        return settings, bench.measure(Disturbed(at_query), "fp32", 1.0)


def metrics_of(settings: Benchmark, measured: Measurement, telemetry: Optional[pd.DataFrame] = None) -> dict[str, Any]:
    rows = pd.DataFrame(columns=["clock_ns", "precision", "phase", "rss_mib"]) if telemetry is None else telemetry
    manifests = {"fp32": Manifest(sha256="0" * 64, made_by="build_fp32", inputs={}, target=None)}
    target = TargetFingerprint("Test CPU", None, "null", "1")
    return of_speed(
        report.result(Run({"fp32": measured}, rows, {}, "", True), manifests, settings, Origin(target.identity()))
    )


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Measurement]:
    """A load of a millisecond a query, and once, in the middle, of ASLEEP seconds."""
    clock = Clock(monkeypatch)
    begin = clock.now
    slept: list[bool] = []

    def at_query() -> None:
        asleep = not slept and clock.now - begin > SECONDS / 2 * 1e9
        slept.extend([True] * asleep)
        clock.sleep(ASLEEP if asleep else 1e-3)

    settings, measured = measure(Unwatched(), at_query, SECONDS)
    return metrics_of(settings, measured), measured


def test_a_sleep_in_the_runtime_makes_the_load_unstable_and_its_window_is_named(
    slept: tuple[dict[str, Any], Measurement],
) -> None:
    metrics, measured = slept
    figures, samples = metrics["fp32"]["single_stream"], measured.loads["single_stream"].samples
    longest = int(np.argmax(samples.latency_seconds))
    assert samples.latency_seconds[longest] >= ASLEEP
    start, end = (
        (moment - samples.due_ns[0]) / 1e9 for moment in (samples.due_ns[longest], samples.completed_ns[longest])
    )
    assert figures["stable"] is False
    named = figures["stability"].split("the slowest, ")[1].split(" s,")[0].split("-")
    assert start - WINDOW <= float(named[0]) < float(named[1]) <= end + WINDOW
    assert figures["throughput_images_per_s_slowest_window"] == 0
    assert figures["latency_ms_max"] >= 1e3 * ASLEEP


@pytest.mark.slow
def test_a_competing_process_is_named_in_the_metrics() -> None:
    announced: list[str] = []

    class Announcing(Observer):
        def phase(self, precision: str, phase: str, seconds: float) -> None:
            super().phase(precision, phase, seconds)
            announced.append(phase)

    with competing() as pid, Announcing(None) as observer:

        def at_query() -> None:
            """The load's first query lasts until the observer has seen the other process during the load."""
            if announced[-1] == "single_stream":
                until(
                    lambda: any(
                        "single_stream," in line and str(pid) in line for line in observed(observer).splitlines()
                    )
                )

        settings, measured = measure(observer, at_query, 0.1)
        observer.close()
        telemetry = observer.table()
    assert (
        f"(process {pid}), up to "
        in metrics_of(settings, measured, telemetry)["fp32"]["single_stream"]["other_processes"]
    )


def test_the_totals_are_the_sum_of_the_windows(slept: tuple[dict[str, Any], Measurement]) -> None:
    metrics, measured = slept
    figures, load = metrics["fp32"]["single_stream"], measured.loads["single_stream"]
    assert load.windows["queries"].sum() == len(load.samples) == figures["queries"]
    assert figures["throughput_images_per_s"] == pytest.approx(figures["queries"] / figures["seconds"])


def test_images_of_the_whole_way_do_not_count_as_memory_of_the_engine(
    slept: tuple[dict[str, Any], Measurement],
) -> None:
    _, measured = slept
    rows = [(0, "fp32", "single_stream", 900.0), (0, "fp32", "whole way, batch 1", 1000.0)]
    telemetry = pd.DataFrame(rows, columns=["clock_ns", "precision", "phase", "rss_mib"])
    telemetry = telemetry.assign(cpu_utilization_percent=0.0, process_cpu_percent=0.0)
    figures = metrics_of(Benchmark(), replace(measured, resident_mib={"after": 800.0}), telemetry)["fp32"]
    assert figures["resident_mib_max"] == 900.0


def test_the_whole_way_is_measured_with_one_image_and_a_batch_unless_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    settings, measured = measure(Unwatched(), lambda: clock.sleep(1e-3), 0.01)
    assert [times.batch for times in measured.whole] == [1], "the engine takes no batch of 32"
    assert metrics_of(settings, measured)["fp32"]["whole"]["batch_1"]["engine_ms_p50"] == pytest.approx(1.0, rel=0.01)
    _, measured = measure(Unwatched(), lambda: clock.sleep(1e-3), 0.01, whole_seconds=0.0)
    assert measured.whole == ()
