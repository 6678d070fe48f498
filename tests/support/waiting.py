"""Waiting for events instead of for time, and a clock that only moves when it is told to: nothing here fails on a slow
or busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Optional, TypeVar

import psutil
import pytest

Value = TypeVar("Value")

HANG_SECONDS = 3600  # of one process of ours: only one that hangs takes as long, on however busy a machine


def until(ask: Callable[[], Optional[Value]]) -> Value:
    """What `ask` returns, once it is true. There is no deadline but pytest-timeout's, which only a hang reaches."""
    while not (found := ask()):
        time.sleep(0.01)
    return found


def gone(process: psutil.Process) -> bool:
    """Whether a process that is no child of ours has ended; a zombie that nobody has buried yet counts as gone."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Clock:
    """Stands for the harness's clock in our own scenarios and on the whole way: each look at it takes `tick_ns`, and
    sleeping moves it.
    """

    def __init__(self, patch: pytest.MonkeyPatch, tick_ns: int = 1000) -> None:
        from enginewright.benchmark import loadgen, schedule, whole

        self.now, self._tick = 1_000_000_000, tick_ns
        for module in (schedule, loadgen, whole):
            patch.setattr(module, "now_ns", self.read)
        patch.setattr(schedule, "time", SimpleNamespace(sleep=self.sleep))

    def read(self) -> int:
        self.now += self._tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)
