"""Load scenarios, by MLPerf Inference's names. A scenario decides when queries are issued; it owns the loop and the
clock.

Source: V. J. Reddi et al., "MLPerf Inference Benchmark", ISCA 2020, section on scenarios. Results of ours are
unofficial. A new scenario is a class with `name` and `drive`, and a line in `scenario_named`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from enginewright.benchmark.clock import NS, Interruption, now_ns
from enginewright.benchmark.samples import Recorder

SPIN_NS = 200_000  # the last of a wait for an arrival is spun: sleeping overshoots by 50 to 100 us


class System(Protocol):
    """The system under test: it answers queries by their number, and knows nothing of time."""

    def answer(self, number: int, count: int = 1) -> object:
        """Answer query `number`, and the `count` - 1 after it with it as one batch; back when all are answered."""

    def answer_all(self, numbers: Iterable[int]) -> Iterator[object]:
        """Answer many queries, several under way at a time; one item as each is answered, in order."""


@dataclass(frozen=True)
class LoadLimits:
    """How long to load, and when to give up."""

    seconds: float
    interruption: Interruption
    minimum_queries: int = 1  # issued even if they take longer than `seconds`


class Scenario(Protocol):
    """Issues queries until the limits are reached."""

    @property
    def name(self) -> str:
        """MLPerf Inference's name."""

    def drive(self, system: System, limits: LoadLimits, recorder: Recorder) -> bool:
        """Issue queries 0, 1, 2, ... and record each; False if the limits' interruption ended it."""


@dataclass(frozen=True)
class SingleStream:
    """One query at a time, the next as soon as the last is answered: latency without queueing. `multi_stream` is the
    same with several images a query.
    """

    name: str = "single_stream"

    def drive(self, system: System, limits: LoadLimits, recorder: Recorder) -> bool:
        """See `Scenario`."""
        record, interruption, clock, answer = recorder.record, limits.interruption, now_ns, system.answer
        completed = clock()
        deadline, number = completed + int(limits.seconds * NS), 0
        while completed < deadline or number < limits.minimum_queries:
            if interruption.requested:
                return False
            issued = clock()
            answer(number)
            completed = clock()
            record(issued, completed)
            number += 1
        return True


@dataclass(frozen=True)
class Offline:
    """All queries are there from the start; the system keeps two or more under way, so that the device never waits:
    throughput.

    A query's latency runs from its hand-over to its answer, with the time that it waits behind those under way.
    """

    name: str = "offline"

    def drive(self, system: System, limits: LoadLimits, recorder: Recorder) -> bool:
        """See `Scenario`."""
        clock, interruption, issued = now_ns, limits.interruption, deque[int]()
        deadline = clock() + int(limits.seconds * NS)

        def numbers() -> Iterator[int]:
            number = 0
            while (number < limits.minimum_queries or clock() < deadline) and not interruption.requested:
                issued.append(clock())
                yield number
                number += 1

        for _ in system.answer_all(numbers()):
            recorder.record(issued.popleft(), clock())
        return not interruption.requested


@dataclass(frozen=True)
class Server:
    """Queries arrive by a Poisson process, whether or not the system keeps up, and latency counts from the arrival: no
    coordinated omission.

    One worker answers; what has arrived while it was busy goes together, up to `max_batch` queries.
    """

    queries_per_s: float
    seed: int = 0
    max_batch: int = 1
    late_ns: int = 0  # with `allowed_late`: the latency bound
    allowed_late: int = 0  # give up once more queries than these were late, for a search needs no more; 0: never
    name: str = "server"

    def drive(self, system: System, limits: LoadLimits, recorder: Recorder) -> bool:
        """See `Scenario`; `limits.minimum_queries` is of no account, as the schedule is fixed before the load."""
        clock, record, interruption = now_ns, recorder.record, limits.interruption
        arrivals = poisson_arrivals(self.queries_per_s, limits.seconds, self.seed)
        due = (clock() + NS // 1000 + arrivals).tolist()
        number, late = 0, 0
        while number < len(due):
            if interruption.requested:
                return False
            _wait_until(due[number])
            now, last = clock(), number + 1
            while last < len(due) and last - number < self.max_batch and due[last] <= now:
                last += 1
            system.answer(number, last - number)
            completed = clock()
            for query in range(number, last):
                record(due[query], completed)
                late += completed - due[query] > self.late_ns
            number = last
            if self.allowed_late and late > self.allowed_late:
                break
        return True


def poisson_arrivals(queries_per_s: float, seconds: float, seed: int) -> npt.NDArray[np.int64]:
    """Arrival times in nanoseconds from the start, ascending, within `seconds`: exponential gaps from a seeded
    generator. One arrival at least.
    """
    generator = np.random.default_rng(seed)
    expected = queries_per_s * seconds
    gaps = generator.exponential(1 / queries_per_s, int(expected + 10 * np.sqrt(expected) + 10))
    times = np.cumsum(gaps)
    kept = times[: max(1, int(np.searchsorted(times, seconds)))]
    return (kept * NS).astype(np.int64)


def _wait_until(moment_ns: int) -> None:
    while (left := moment_ns - now_ns()) > 0:
        if left > SPIN_NS:
            time.sleep((left - SPIN_NS) / NS)
