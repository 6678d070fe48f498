"""Load scenarios, by MLPerf Inference's names. A scenario decides when queries are issued; it owns the loop and the clock.

A new scenario (offline, server, multi_stream) is a class with `name` and `drive`, and a line in SCENARIOS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from enginewright.benchmark.clock import NS, Interruption, now_ns
from enginewright.benchmark.samples import Recorder

Answer = Callable[[int], object]  # answers query number k: the system under test


@dataclass(frozen=True)
class Plan:
    """How long to load, and when to give up."""

    seconds: float
    interruption: Interruption
    minimum_queries: int = 1  # issued even if they take longer than `seconds`


class Scenario(Protocol):
    """Issues queries until the plan is fulfilled."""

    name: str

    def drive(self, answer: Answer, plan: Plan, recorder: Recorder) -> bool:
        """Issue queries 0, 1, 2, ... and record each; False if the plan's interruption ended it."""


class SingleStream:
    """One query at a time, the next as soon as the last is answered (MLPerf Inference, SingleStream): latency without queueing."""

    name = "single_stream"

    def drive(self, answer: Answer, plan: Plan, recorder: Recorder) -> bool:
        """See `Scenario`."""
        record, interruption, clock = recorder.record, plan.interruption, now_ns
        issued = clock()
        deadline, number = issued + int(plan.seconds * NS), 0
        completed = issued
        while completed < deadline or number < plan.minimum_queries:
            if interruption.requested:
                return False
            issued = clock()
            answer(number)
            completed = clock()
            record(issued, completed)
            number += 1
        return True


SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (SingleStream(),)}
