"""MLPerf LoadGen as the driver, where `mlcommons-loadgen` is installed. The owner of mlperf_loadgen.

It issues the queries of single_stream, multi_stream and offline and keeps its own log, whose verdict and figures stand
beside ours. Every query is recorded here as well, so that windows, percentiles and totals come from one way of data.
`server` stays with our own driver: LoadGen does not say when a query was due, and latency from its issue would leave
out the queueing (docs/decisions/0011-loadgen.md).
"""

from __future__ import annotations

import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enginewright.benchmark.clock import NS, now_ns
from enginewright.benchmark.samples import Recorder
from enginewright.benchmark.schedule import LoadLimits, System

Issue = Callable[[Sequence[Any]], None]
SCENARIOS = {"single_stream": "SingleStream", "multi_stream": "MultiStream", "offline": "Offline"}
UNOFFICIAL = "unofficial: not a result verified by MLCommons"
LOADED_SAMPLES = 1 << 10  # of LoadGen's sample library; which images they stand for is the system's choice
FIGURES = {
    "Samples per second": "samples_per_s",
    "QPS w/o loadgen overhead": "queries_per_s",
    "Samples per query": "samples_per_query",
    "Mean latency (ns)": "latency_ns_mean",
    "50.00 percentile latency (ns)": "latency_ns_p50",
    "90.00 percentile latency (ns)": "latency_ns_p90",
    "99.00 percentile latency (ns)": "latency_ns_p99",
    "99.90 percentile latency (ns)": "latency_ns_p99_9",
}


def why_not(scenario: str) -> str:
    """Empty if LoadGen can drive the scenario here, else the reason."""
    if scenario not in SCENARIOS:
        return f"LoadGen does not drive {scenario} here"
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError:
        return "LoadGen is not installed (pip install mlcommons-loadgen)"
    return ""


class LoadGen:
    """A `Scenario` that LoadGen drives."""

    def __init__(self, name: str, batch: int, expected_queries_per_s: float) -> None:
        """`batch` images are one query of the system; the expected rate, from the warm-up, sizes the one big query of
        offline.
        """
        self.name, self._batch, self._expected = name, batch, max(expected_queries_per_s, 1.0)
        self.summary: dict[str, Any] = {}

    def drive(self, system: System, limits: LoadLimits, recorder: Recorder) -> bool:
        """See `enginewright.benchmark.schedule.Scenario`; fills `summary` with what LoadGen's own log says, unless the
        load was cut short.

        All of it runs in the calling thread, which loaded the engine: LoadGen calls back, and no query waits for
        another thread to wake. LoadGen cannot be told to stop, and an exception through its C++ crashes the process. So
        a fault or an interruption is kept, every query that LoadGen still issues is answered at once with nothing, and
        the fault is raised when LoadGen has run out of the queries it prepared.
        """
        import mlperf_loadgen as loadgen

        faults: list[BaseException] = []
        make = self._answer_all if self.name == "offline" else self._answer
        under_test = loadgen.ConstructSUT(make(system, limits, recorder, _Completion(loadgen), faults), _nothing)
        library = loadgen.ConstructQSL(LOADED_SAMPLES, LOADED_SAMPLES, _nothing, _nothing)
        with tempfile.TemporaryDirectory(prefix="enginewright-loadgen-") as folder:
            try:
                loadgen.StartTestWithLogSettings(
                    under_test, library, self._settings(loadgen, limits), _quiet(loadgen, folder)
                )
            finally:
                loadgen.DestroySUT(under_test)
                loadgen.DestroyQSL(library)
            if faults:
                raise faults[0]
            if limits.interruption.requested:
                return False
            self.summary = read_summary((Path(folder) / "mlperf_log_summary.txt").read_text())
        return True

    def _answer(
        self, system: System, limits: LoadLimits, recorder: Recorder, complete: _Completion, faults: list[BaseException]
    ) -> Issue:
        """Answer a query as it comes."""
        clock, answer, record, interruption = now_ns, system.answer, recorder.record, limits.interruption

        def issue(samples: Sequence[Any]) -> None:
            if not (interruption.requested or faults):
                try:
                    issued = clock()
                    answer(recorder.count)
                    completed = clock()
                except BaseException as fault:  # noqa: BLE001  # raised by `drive`
                    faults.append(fault)
                else:
                    complete(samples)  # first: LoadGen's clock runs until here
                    record(issued, completed)
                    return
            complete(samples)

        return issue

    def _answer_all(
        self, system: System, limits: LoadLimits, recorder: Recorder, complete: _Completion, faults: list[BaseException]
    ) -> Issue:
        """Answer the one query of offline batch by batch."""
        clock, interruption, batch = now_ns, limits.interruption, self._batch
        due: deque[int] = deque()

        def numbers(count: int) -> Iterator[int]:
            for number in range(count):
                if interruption.requested:
                    return
                due.append(clock())
                yield number

        def issue(samples: Sequence[Any]) -> None:
            answered = 0
            try:
                for _ in system.answer_all(numbers(-(-len(samples) // batch))):
                    recorder.record(due.popleft(), clock())
                    complete(samples[answered : answered + batch])
                    answered += batch
            except BaseException as fault:  # noqa: BLE001  # raised by `drive`
                faults.append(fault)
            complete(samples[answered:])

        return issue

    def _settings(self, loadgen: Any, limits: LoadLimits) -> Any:
        settings = loadgen.TestSettings()
        settings.mode = loadgen.TestMode.PerformanceOnly
        settings.scenario = getattr(loadgen.TestScenario, SCENARIOS[self.name])
        settings.min_duration_ms = max(1, round(limits.seconds * 1e3))
        settings.min_query_count = limits.minimum_queries
        if self.name == "offline":  # LoadGen takes a tenth more by itself; the batches must be whole
            queries = max(limits.minimum_queries, round(self._expected * limits.seconds))
            settings.min_query_count = settings.max_query_count = queries * self._batch
            settings.min_duration_ms = 0
            settings.offline_expected_qps = self._expected * self._batch
        elif self.name == "multi_stream":
            settings.multi_stream_samples_per_query = self._batch
            settings.multi_stream_expected_latency_ns = round(NS / self._expected)
        else:
            settings.single_stream_expected_latency_ns = round(NS / self._expected)
        return settings


class _Completion:
    """Tells LoadGen that samples are answered; it looks at the answers in accuracy mode alone, and copies what it is
    handed.
    """

    def __init__(self, loadgen: Any) -> None:
        self._answer = np.zeros(1, np.uint8)
        self._complete, self._response = loadgen.QuerySamplesComplete, loadgen.QuerySampleResponse
        self._responses: list[Any] = []

    def __call__(self, samples: Sequence[Any]) -> None:
        responses = self._responses  # used again: to make one takes twice the time of changing one
        while len(responses) < len(samples):
            responses.append(self._response(0, self._answer.ctypes.data, self._answer.nbytes))
        for response, sample in zip(responses, samples):
            response.id = sample.id
        self._complete(responses if len(responses) == len(samples) else responses[: len(samples)])


def _nothing(*_: object) -> None:
    """LoadGen's hooks for loading samples and flushing queries: the images are ready, and every query is served at
    once.
    """


def _quiet(loadgen: Any, folder: str) -> Any:
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    settings = loadgen.LogSettings()
    settings.log_output, settings.enable_trace = output, False
    return settings


def read_summary(text: str) -> dict[str, Any]:
    """Verdict and figures of mlperf_log_summary.txt, latencies in milliseconds; says of itself that it is
    unofficial.
    """
    found: dict[str, Any] = {"status": UNOFFICIAL}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "Result is":
            found["result"] = value
        elif name in FIGURES and re.fullmatch(r"[\d.]+(e[+-]?\d+)?", value):
            key = FIGURES[name]
            found[key.replace("_ns", "_ms")] = float(value) / 1e6 if "_ns" in key else float(value)
    return found
