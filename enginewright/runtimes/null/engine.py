"""An engine that answers zeros."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from enginewright.feeds import Feeds, require_iterable
from enginewright.interface import BATCH, Axes, Interface
from enginewright.runtimes.base import Outputs
from enginewright.runtimes.checked import axes_of, require_engine
from enginewright.runtimes.host import HostEngine
from enginewright.target import TargetFingerprint


def load(engine: Path, here: TargetFingerprint) -> NullEngine:
    """Verify the sidecar, then read the shapes. Raises StaleArtifact."""
    made = require_engine(engine, here)
    return NullEngine(Interface.from_dict(json.loads(engine.read_text())), axes_of(engine, made), engine)


class NullEngine(HostEngine):
    """Answers views of zeros that were made once; they cannot be written to."""

    def __init__(self, interface: Interface, axes: Axes, path: Path = Path("engine.null")) -> None:
        """An axis of an output that is dynamic beside the batch has length 1."""
        super().__init__(path, interface, axes)
        sizes = {BATCH: self._limit}
        self._answers = {spec.name: np.zeros(spec.sizes(sizes), spec.dtype) for spec in interface.outputs}
        self._batched = {spec.name for spec in interface.outputs if spec.shape[:1] == (BATCH,)}
        for zeros in self._answers.values():
            zeros.flags.writeable = False  # else one caller could change what another is answered

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        """Zeros of the shapes of the outputs."""
        del feeds
        return {name: zeros[:rows] if name in self._batched else zeros for name, zeros in self._answers.items()}

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[Outputs]:
        """See `Engine`. Nothing takes time, so nothing overlaps."""
        require_iterable(batches)
        return map(self.infer, batches)

    def device_seconds(self, feeds: Feeds, repeats: int) -> npt.NDArray[np.float64]:
        """What reading the clock costs, in seconds, [repeats]. Raises EngineInputError."""
        self.check(feeds)
        return np.array([-time.perf_counter() + time.perf_counter() for _ in range(repeats)])
