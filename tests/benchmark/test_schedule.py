"""Every scenario, by our driver and by LoadGen: no query is lost, the interruption is heeded, latency counts from where
it must.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Optional

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from enginewright.benchmark import loadgen
from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.samples import Recorder
from enginewright.benchmark.schedule import LoadLimits, Offline, Scenario, Server, SingleStream, poisson_arrivals
from enginewright.benchmark.server import Probe, best, highest_rate, table
from enginewright.benchmark.windows import window_table
from support.waiting import Clock

needs_loadgen = pytest.mark.skipif(bool(loadgen.why_not("offline")), reason=loadgen.why_not("offline"))


OWN = 4  # of the scenarios below


class Busy:
    """Answers after a time, at most one query at once; remembers what it was asked."""

    def __init__(
        self,
        seconds: float = 0.0,
        stop_at: int = -1,
        depth: int = 2,
        fault: Optional[Exception] = None,
        clock: Optional[Clock] = None,
    ) -> None:
        self.asked: list[int] = []
        self.under_way = 0
        self.most_under_way = 0
        self.interruption = Interruption()
        self._seconds, self._stop_at, self._depth, self._fault = seconds, stop_at, depth, fault
        self._sleep = clock.sleep if clock else time.sleep

    def answer(self, number: int, count: int = 1) -> object:
        if self._fault and number >= 5:
            raise self._fault
        self.asked += range(number, number + count)
        self.interruption.requested |= self._stop_at in range(number, number + count)
        if self._seconds:
            self._sleep(self._seconds)
        return None

    def answer_all(self, numbers: Iterable[int]) -> Iterator[object]:
        waiting: list[int] = []
        for number in numbers:
            waiting.append(number)
            self.most_under_way = max(self.most_under_way, len(waiting))
            if len(waiting) == self._depth:
                yield self.answer(waiting.pop(0))
        while waiting:
            yield self.answer(waiting.pop(0))


def drivers(batch: int) -> list[Scenario]:
    own: list[Scenario] = [SingleStream(), SingleStream("multi_stream"), Offline(), Server(2000.0, seed=1, max_batch=4)]
    theirs: list[Scenario] = [
        loadgen.LoadGen(name, batch, 500.0) for name in loadgen.SCENARIOS if not loadgen.why_not(name)
    ]
    return own + theirs


@pytest.mark.parametrize("index", range(7))
@settings(max_examples=5, deadline=None)
@given(
    seconds=st.floats(0.001, 0.03),
    batch=st.sampled_from([1, 2, 8]),
    window=st.floats(0.002, 0.02),
    least=st.integers(1, 30),
)
def test_no_sample_is_lost_between_driver_windows_and_totals(
    index: int, seconds: float, batch: int, window: float, least: int
) -> None:
    scenarios = drivers(batch)
    if index >= len(scenarios):
        pytest.skip(loadgen.why_not("offline"))
    system, recorder = Busy(1e-4), Recorder(1)
    assert scenarios[index].drive(system, LoadLimits(seconds, system.interruption, least), recorder)
    samples = recorder.samples(batch, True)
    assert system.asked == list(range(len(samples)))
    assert scenarios[index].name == "server" or len(samples) >= least
    assert (samples.completed_ns >= samples.due_ns).all()
    assert (np.diff(samples.completed_ns) >= 0).all()
    windows = window_table(samples, window)
    lengths = np.diff(windows["seconds"], prepend=0.0)
    assert windows["queries"].sum() == len(samples)
    assert (windows["throughput_images_per_s"] * lengths).sum() == pytest.approx(batch * len(samples))


@pytest.mark.parametrize("scenario", drivers(1)[:OWN], ids=lambda scenario: scenario.name)
def test_an_interruption_ends_the_load_and_keeps_what_was_answered(scenario: Scenario) -> None:
    system, recorder = Busy(1e-4, stop_at=4), Recorder(8)
    assert not scenario.drive(system, LoadLimits(60.0, system.interruption), recorder)
    assert 4 <= recorder.count <= 9  # whatever was under way may still come back
    assert recorder.count == len(system.asked)


@pytest.mark.slow
@needs_loadgen
@pytest.mark.parametrize("name", loadgen.SCENARIOS)
def test_an_interruption_ends_loadgen_and_keeps_what_was_answered(name: str) -> None:
    """The rest of LoadGen's queries is answered with nothing, without waiting for the end of the load: a day from now,
    which only pytest-timeout would live to see. At a query a minute, LoadGen does not prepare many.
    """
    system, recorder, scenario = Busy(1e-4, stop_at=4), Recorder(8), loadgen.LoadGen(name, 2, 1 / 60)
    assert not scenario.drive(system, LoadLimits(24 * 3600.0, system.interruption), recorder)
    assert 4 <= recorder.count == len(system.asked) < 100
    assert scenario.summary == {}  # it would be of queries that nobody answered


@needs_loadgen
@pytest.mark.parametrize("name", loadgen.SCENARIOS)
def test_a_fault_under_loadgen_is_raised_and_another_load_can_follow(name: str) -> None:
    system, recorder = Busy(1e-4, fault=ZeroDivisionError("of the engine")), Recorder(8)
    with pytest.raises(ZeroDivisionError, match="of the engine"):
        loadgen.LoadGen(name, 2, 500.0).drive(system, LoadLimits(1.0, system.interruption), recorder)
    assert recorder.count == len(system.asked) >= 4
    again, other = Busy(), Recorder(8)
    assert loadgen.LoadGen(name, 2, 500.0).drive(again, LoadLimits(0.05, again.interruption), other)
    assert other.count == len(again.asked) > 0


@needs_loadgen
@pytest.mark.parametrize("name", loadgen.SCENARIOS)
def test_loadgen_asks_in_the_thread_that_loaded_the_engine(name: str) -> None:
    class Bound(Busy):
        def answer(self, number: int, count: int = 1) -> object:
            threads.add(threading.get_ident())
            return super().answer(number, count)

    threads: set[int] = set()
    system = Bound()
    assert loadgen.LoadGen(name, 1, 500.0).drive(system, LoadLimits(0.05, system.interruption), Recorder(8))
    assert threads == {threading.get_ident()}


def test_single_stream_has_one_query_under_way_and_offline_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    system, recorder = Busy(1e-4, depth=3, clock=clock), Recorder(8)
    SingleStream().drive(system, LoadLimits(0.01, system.interruption), recorder)
    samples = recorder.samples(1, True)
    assert len(samples) > 50
    assert (samples.due_ns[1:] >= samples.completed_ns[:-1]).all()
    offline = Recorder(8)
    Offline().drive(system, LoadLimits(0.02, system.interruption), offline)
    samples = offline.samples(1, True)
    assert len(samples) > 100
    assert system.most_under_way == 3
    assert (samples.due_ns[1:] < samples.completed_ns[:-1]).mean() > 0.9


def test_arrivals_are_a_poisson_process() -> None:
    arrivals = poisson_arrivals(1000.0, 20.0, seed=3) / 1e9
    assert stats.kstest(np.diff(arrivals), "expon", args=(0, 1e-3)).pvalue > 0.01
    counts = np.histogram(arrivals, bins=200, range=(0, 20))[0]
    assert abs(counts.sum() - 20_000) < 4 * 20_000**0.5
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.35)
    assert (poisson_arrivals(1000.0, 20.0, seed=3) / 1e9 == arrivals).all()
    assert len(poisson_arrivals(0.001, 0.1, seed=0)) == 1


def test_server_counts_latency_from_the_arrival_even_where_the_system_cannot_keep_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system, recorder = Busy(5e-3, clock=Clock(monkeypatch)), Recorder(64)  # 200 a second at most, and 400 arrive
    Server(400.0, seed=2).drive(system, LoadLimits(0.25, system.interruption), recorder)
    latency = recorder.samples(1, True).latency_seconds
    assert latency[-1] > 0.1  # the queue has grown to half of the load's length
    assert latency[-1] > 4 * latency[0]


def test_server_answers_together_what_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    late: list[float] = []
    for limit in (1, 8):
        system, recorder = Busy(4e-3, clock=clock), Recorder(64)
        Server(800.0, seed=2, max_batch=limit).drive(system, LoadLimits(0.2, system.interruption), recorder)
        assert system.asked == list(range(recorder.count))
        late.append(float(np.percentile(recorder.samples(1, True).latency_seconds, 90)))
    alone, together = late
    assert together < alone / 3


def test_a_search_gives_up_a_rate_that_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    system, recorder = Busy(2e-3, clock=Clock(monkeypatch)), Recorder(64)
    Server(5000.0, seed=0, late_ns=10_000_000, allowed_late=10).drive(
        system, LoadLimits(1.0, system.interruption), recorder
    )
    assert 10 < recorder.count < 100  # of 5,000


@pytest.mark.parametrize(("capacity", "start"), [(130.0, 100.0), (130.0, 7.0), (130.0, 4000.0)])
def test_the_search_ends_within_five_percent_of_the_highest_rate(capacity: float, start: float) -> None:
    probes = highest_rate(lambda rate: Probe(rate, 10, rate, rate <= capacity), start)
    assert capacity / 1.06 <= best(probes) <= capacity
    assert len(probes) <= 14
    assert table(probes)["held"].sum() == sum(probe.held for probe in probes)


def test_a_system_that_holds_no_rate_has_none() -> None:
    probes = highest_rate(lambda rate: Probe(rate, 1, 99.0, False), 100.0)
    assert best(probes) == 0


@needs_loadgen
def test_loadgen_says_what_it_measured_and_that_it_is_unofficial() -> None:
    scenario, system, recorder = loadgen.LoadGen("single_stream", 1, 500.0), Busy(1e-3), Recorder(64)
    assert scenario.drive(system, LoadLimits(0.3, system.interruption), recorder)
    ours = np.sort(recorder.samples(1, True).latency_seconds)
    assert scenario.summary["status"].startswith("unofficial")
    # LoadGen's clock runs from before ours starts until after ours stops, so each of its latencies is at least ours;
    # and its queries do not overlap, so there are at most as many a second as one latency allows.
    assert scenario.summary["latency_ms_p50"] >= 1e3 * ours[(len(ours) - 1) // 2] >= 1
    assert 0 < scenario.summary["queries_per_s"] <= 1 / ours.mean()


def test_a_summary_of_loadgen_is_read() -> None:
    text = (
        "Scenario : Offline\nSamples per second: 149458\nResult is : VALID\n99.00 percentile latency (ns)   :"
        " 3793786\nsamples_per_query : 2200\n"
    )
    assert loadgen.read_summary(text) == {
        "status": loadgen.UNOFFICIAL,
        "result": "VALID",
        "samples_per_s": 149458.0,
        "latency_ms_p99": 3.793786,
    }
