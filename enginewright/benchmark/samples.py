"""Every query of a load, as the harness saw it: nothing is aggregated, clipped or dropped while it runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enginewright.benchmark.clock import NS

Nanoseconds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """The queries of one load, in the order of completion."""

    due_ns: Nanoseconds  # [queries], when each query was issued, or in an open loop should have been
    completed_ns: Nanoseconds  # [queries], ascending
    batch: int  # images of a query
    complete: bool = True  # False if the load was cut short

    def __len__(self) -> int:
        return len(self.due_ns)

    @property
    def latency_seconds(self) -> npt.NDArray[np.float64]:
        """[queries], completion minus due time."""
        return (self.completed_ns - self.due_ns) / NS

    @property
    def seconds(self) -> float:
        """From the first query's issue to the last completion; 0 without queries."""
        return float(self.completed_ns[-1] - self.due_ns[0]) / NS if len(self) else 0.0

    @property
    def queries_per_second(self) -> float:
        """Queries over the time from first issue to last completion, gaps included; 0 without queries."""
        return len(self) / self.seconds if len(self) else 0.0

    @property
    def images_per_second(self) -> float:
        """Images over the same time."""
        return self.queries_per_second * self.batch


class Recorder:
    """Two arrays of nanoseconds, allocated and touched before the load, so that recording neither allocates nor faults
    a page.
    """

    def __init__(self, capacity: int) -> None:
        """Room for `capacity` queries; it doubles when full, between two queries."""
        self._times: Nanoseconds = np.ones(
            (2, max(capacity, 1)), np.int64
        )  # ones, not empty: the kernel maps pages on the first write
        self._view_arrays()
        self.count = 0

    def record(self, due_ns: int, completed_ns: int) -> None:
        """Keep one query."""
        if self.count == len(self._due):
            self._times = np.concatenate([self._times, np.ones_like(self._times)], axis=1)
            self._view_arrays()
        self._due[self.count] = due_ns
        self._completed[self.count] = completed_ns
        self.count += 1

    def samples(self, batch: int, complete: bool) -> Samples:
        """What was recorded."""
        due, completed = self._times[:, : self.count].copy()
        return Samples(due, completed, batch, complete)

    def _view_arrays(self) -> None:
        # Assigning to a memoryview takes a third of the time of assigning to an array.
        self._due, self._completed = memoryview(self._times[0]), memoryview(self._times[1])
