"""A run of benchmark_sustained: every engine in turn under the same load, with the device watched all along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.load import Bench, Measurement
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.telemetry import rss_mib
from enginewright.config import Benchmark, Model, Precision
from enginewright.data import Feeding
from enginewright.results.shape import SampleShape
from enginewright.runtimes.built import SealedEngine
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """What was measured, until the end or until Ctrl-C."""

    measured: Mapping[str, Measurement]  # by precision
    telemetry: pd.DataFrame
    device_state: Any  # of the GPU, before the load
    absent: str  # which telemetry there was none of, a sentence or ""
    complete: bool
    shape: Optional[SampleShape] = None  # of what was fed


def measure(
    engines: Mapping[Precision, SealedEngine],
    feeding: Feeding,
    settings: Benchmark,
    model: Model,
    target: TargetFingerprint,
) -> Run:
    """Load and measure one engine after the other; Ctrl-C ends the run and keeps what was measured."""
    measured: dict[str, Measurement] = {}
    shape: Optional[SampleShape] = None
    gpu = target.device if target.compute_capability else None
    with Observer(gpu) as observer, Interruption() as interruption:
        bench = Bench(feeding, settings, model, interruption=interruption, observer=observer)
        for precision, sealed in engines.items():
            resident = rss_mib()
            with sealed.load() as engine:
                shape = feeding.shape(engine.interface.inputs)
                measured[precision.value] = bench.measure(engine, precision.value, resident)
            if not measured[precision.value].complete:
                break
        observer.close()
        telemetry = observer.table()
    complete = len(measured) == len(engines) and all(measurement.complete for measurement in measured.values())
    return Run(measured, telemetry, observer.device_state, observer.absent, complete, shape)
