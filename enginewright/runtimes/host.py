"""The engine of a runtime that computes in the host's memory: everything but the computing itself."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Optional, TypeVar

import numpy as np
import numpy.typing as npt

from enginewright.feeds import Array, Feeds, engine_closed, joined, refuse_nan
from enginewright.interface import Axes, Interface
from enginewright.runtimes.base import LayerTime, Outputs
from enginewright.runtimes.batches import check_feeds, in_batches, overlapped, plain_inputs

Self = TypeVar("Self", bound="HostEngine")
DEPTH = 2  # batches under way in `infer_many`


class HostEngine(ABC):
    """See `enginewright.runtimes.base.Engine` and `Timed`. A subclass computes; feeds are checked and split here."""

    def __init__(
        self, path: Path, interface: Interface, axes: Axes, quantized: bool = False, depth: int = DEPTH
    ) -> None:
        """Hold no more than what `compute` needs.

        Args:
            path: of the engine, for sentences.
            interface: names, dtypes and axes.
            axes: the range of each axis; a batch beyond its range runs in several goes.
            quantized: computes in INT8, so NaN is refused.
            depth: batches under way in `infer_many`, a thread each.
        """
        self.path, self.interface, self.axes = path, interface, axes
        self._quantized, self._depth, self._closed = quantized, depth, False
        self._limit = interface.rows(axes)

    @abstractmethod
    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        """Answer feeds that are checked, of at most the largest batch."""

    def infer(self, feeds: Feeds) -> Outputs:
        """See `Engine`."""
        rows = self.check(feeds)
        if rows <= self._limit:
            return self.compute(feeds, rows)
        pieces = in_batches(self.interface, feeds, rows, self._limit)
        return joined([(self.compute(piece, count), count) for piece, count in pieces])

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[Outputs]:
        """See `Engine`."""
        return overlapped(self.infer, batches, self._depth, live=self.require_open)

    def pinned_inputs(self, rows: int, sizes: Optional[Mapping[str, int]] = None) -> dict[str, Array]:
        """Arrays in ordinary memory, which host and device share."""
        return plain_inputs(self.interface, self.axes, rows, sizes)

    def device_seconds(self, feeds: Feeds, repeats: int) -> npt.NDArray[np.float64]:
        """Wall time of each run in seconds, as host and device are one, [repeats]. Raises EngineInputError."""
        pieces = list(in_batches(self.interface, feeds, self.check(feeds), self._limit))
        seconds = np.empty(repeats)
        for repeat in range(repeats):
            start = time.perf_counter()
            for piece, rows in pieces:
                self.compute(piece, rows)
            seconds[repeat] = time.perf_counter() - start
        return seconds

    def phase_seconds(self, feeds: Feeds, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Nothing to tell apart: there is one clock and one memory. Raises EngineInputError."""
        del repeats
        self.check(feeds)
        return {}

    def layer_times(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """Nothing, unless a subclass has layers. Raises EngineInputError."""
        del runs
        self.check(feeds)
        return []

    def check(self, feeds: Feeds) -> int:
        """The rows of feeds that may be computed. Raises EngineInputError."""
        self.require_open()
        rows = check_feeds(self.interface, self.axes, feeds)
        if self._quantized:
            refuse_nan(feeds)
        return rows

    def require_open(self) -> None:
        """Raises EngineInputError after `close`."""
        if self._closed:
            raise engine_closed(self.path)

    def close(self) -> None:
        """See `Engine`; a subclass that holds something lets go of it too."""
        self._closed = True

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
