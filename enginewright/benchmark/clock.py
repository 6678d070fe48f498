"""The harness's clock and what must hold still while it runs. Runtimes never see it: they only answer."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Optional

now_ns = time.perf_counter_ns  # CLOCK_MONOTONIC: one time line for all processes of a Linux machine
NS = 1_000_000_000  # nanoseconds in a second


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Collect now, then not until the block ends: a full collection takes milliseconds, and would be charged to some
    query.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Interruption:
    """Turns the first Ctrl-C into a flag that the driver looks at between two queries, so that no sample is torn; the
    second one is Python's own.
    """

    def __init__(self) -> None:
        """Takes effect in a `with` block of the main thread; elsewhere the flag stays down."""
        self.requested = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, _signal: int, _frame: Optional[FrameType]) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
