"""Puts an engine under load with real images, scenario by scenario, and keeps everything that was seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.benchmark import loadgen, server
from enginewright.benchmark.clock import NS, Interruption, garbage_collection_paused
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.percentiles import latency_metrics, rank, too_few
from enginewright.benchmark.samples import Recorder, Samples
from enginewright.benchmark.schedule import LoadLimits, Offline, Scenario, Server, SingleStream
from enginewright.benchmark.system import EngineSystem
from enginewright.benchmark.telemetry import rss_mib
from enginewright.benchmark.whole import WholeTimes, WholeWay
from enginewright.benchmark.windows import window_table
from enginewright.config import Benchmark, Driver, Model, ScenarioName
from enginewright.data import Feeding
from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.base import TimedEngine

if TYPE_CHECKING:
    import pandas as pd

LEAST_WARMUP_QUERIES = 3  # the first queries allocate and compile
LEAST_CURVE_QUERIES = 3
DEVICE_SECONDS = 1.0  # spent on device time
LARGEST_CAPACITY = 1 << 24  # queries preallocated; beyond, the recorder doubles
WHOLE = "whole way"  # how telemetry calls it
CURVE_LATENCIES = ("latency_ms_mean", "latency_ms_p50", "latency_ms_p99")


@dataclass(frozen=True)
class Load:
    """What one scenario showed of one engine. Parts that an interruption prevented are empty."""

    samples: Samples
    windows: pd.DataFrame
    device_seconds: npt.NDArray[np.float64]  # of one query, inputs on the device already: without transfers
    phases: Mapping[str, npt.NDArray[np.float64]]  # seconds of enqueue, h2d, compute, d2h, where the backend can tell
    driver: str
    loadgen: Mapping[str, Any] = field(default_factory=dict)
    probes: tuple[server.Probe, ...] = ()

    def metrics(self) -> dict[str, Any]:
        """Figures for DVC: latency in milliseconds, throughput per second."""
        figures: dict[str, Any] = {
            "driver": self.driver,
            "batch_size": self.samples.batch,
            "queries": len(self.samples),
            "seconds": self.samples.seconds,
            "throughput_queries_per_s": self.samples.queries_per_second,
            "throughput_images_per_s": self.samples.images_per_second,
            **latency_metrics(self.samples.latency_seconds),
            **latency_metrics(self.device_seconds, "device_ms"),
            **{f"{phase}_ms_p50": 1e3 * float(np.median(seconds)) for phase, seconds in self.phases.items()},
        }
        if len(self.device_seconds):
            figures["throughput_images_per_s_without_transfers"] = self.samples.batch / float(
                self.device_seconds.mean()
            )
        if missing := too_few(len(self.samples)):
            figures["percentiles_left_out"] = missing
        if self.probes:
            figures["highest_queries_per_s"] = server.best(list(self.probes))
        return {**figures, "loadgen": dict(self.loadgen)} if self.loadgen else figures


@dataclass(frozen=True)
class Measurement:
    """What the loads on one engine showed."""

    loads: Mapping[str, Load]  # by scenario
    curve: pd.DataFrame
    resident_mib: Mapping[str, float]
    complete: bool
    whole: tuple[WholeTimes, ...] = ()  # by batch size


class Bench:
    """The settings of a benchmark, with the images and who watches."""

    def __init__(
        self,
        feeding: Feeding,
        settings: Benchmark,
        model: Model,
        *,
        interruption: Interruption,
        observer: Observer,
    ) -> None:
        """`model` says what is made of outputs; `interruption` and `observer` are entered already."""
        self._feeding, self._settings = feeding, settings
        self._model = model
        self._interruption, self._observer = interruption, observer

    def measure(self, engine: TimedEngine, precision: str, resident_before_mib: float) -> Measurement:
        """Every scenario after a warm-up of its own, then the batch-size curve and the whole way of an image; the
        process's resident memory is noted before these.

        Raises:
            DataError: there is no image.
            RuntimeUnavailable: LoadGen is asked for and not there.
        """
        import pandas as pd

        resident, loads = {"before": resident_before_mib, "loaded": rss_mib()}, {}
        for name in self._settings.scenarios:
            loads[name.value] = self.load(engine, precision, name)
            if not loads[name.value].samples.complete:
                break
        resident["after"] = rss_mib()
        complete = all(load.samples.complete for load in loads.values())
        curve = self.batch_curve(engine, precision) if complete else pd.DataFrame()
        complete = complete and len(curve) == len(self._settings.batch_curve)
        whole = tuple(self.whole(engine, precision)) if complete else ()
        return Measurement(loads, curve, resident, complete and all(times.complete for times in whole), whole)

    def load(self, engine: TimedEngine, precision: str, name: ScenarioName) -> Load:
        """Warm up, load, then device time."""
        settings, batch = self._settings, self._batch(name)
        system = EngineSystem(
            engine,
            self._feeding,
            batch,
            settings.server.max_batch if name is ScenarioName.server else 0,
        )
        self._observer.phase(precision, f"{name.value} warm-up", settings.warmup_seconds)
        warm = self.drive(
            Offline() if name is ScenarioName.offline else SingleStream(),
            system,
            batch,
            settings.warmup_seconds,
            LEAST_WARMUP_QUERIES,
        )
        probes: tuple[server.Probe, ...] = ()
        rate = settings.server.queries_per_s
        if name is ScenarioName.server and rate is None and warm.complete:
            probes = tuple(
                server.highest_rate(
                    lambda tried: self._probe(system, precision, tried), max(warm.queries_per_second / 2, 1.0)
                )
            )
            rate = server.best(list(probes)) or probes[-1].queries_per_s
        scenario = self._scenario(name, batch, warm.queries_per_second, rate or 1.0)
        recorder = Recorder(min(int(1.5 * settings.seconds * (rate or warm.queries_per_second)) + 1, LARGEST_CAPACITY))
        self._observer.phase(precision, name.value, settings.seconds)
        samples = (
            self.drive(scenario, system, batch, settings.seconds, 1, recorder)
            if warm.complete
            else recorder.samples(batch, complete=False)
        )
        device, phases = self._device_times(engine, precision, system, samples)
        return Load(
            samples,
            window_table(samples, settings.window_seconds),
            device,
            phases,
            "loadgen" if isinstance(scenario, loadgen.LoadGen) else "own",
            scenario.summary if isinstance(scenario, loadgen.LoadGen) else {},
            probes,
        )

    def drive(
        self,
        scenario: Scenario,
        system: EngineSystem,
        batch: int,
        seconds: float,
        least: int,
        recorder: Optional[Recorder] = None,
    ) -> Samples:
        """Run a scenario once, with the garbage collector held still."""
        recorder = recorder or Recorder(1 << 12)
        with garbage_collection_paused():
            complete = scenario.drive(system, LoadLimits(seconds, self._interruption, least), recorder)
        return recorder.samples(batch, complete)

    def batch_curve(self, engine: TimedEngine, precision: str) -> pd.DataFrame:
        """Columns batch, throughput_images_per_s (several batches under way) and latencies (one at a time); a row a
        batch size.
        """
        import pandas as pd

        seconds, rows = self._settings.batch_curve_seconds, []
        for batch in self._settings.batch_curve:
            self._observer.phase(precision, f"batch {batch}", 2.1 * seconds)
            system = EngineSystem(engine, self._feeding, batch)
            self.drive(SingleStream(), system, batch, 0.1 * seconds, LEAST_WARMUP_QUERIES)
            alone = self.drive(SingleStream(), system, batch, seconds, LEAST_CURVE_QUERIES)
            together = self.drive(Offline(), system, batch, seconds, LEAST_CURVE_QUERIES)
            if not (alone.complete and together.complete):
                break
            latency = latency_metrics(alone.latency_seconds)
            rows.append(
                {
                    "batch": batch,
                    "throughput_images_per_s": together.images_per_second,
                    **{key: latency.get(key) for key in CURVE_LATENCIES},
                }
            )
        return pd.DataFrame(rows)

    def whole(self, engine: TimedEngine, precision: str) -> Iterator[WholeTimes]:
        """Preprocessing, engine and postprocessing in turn: one image, and a batch of offline."""
        seconds = self._settings.whole_seconds
        if not seconds:
            return
        way = WholeWay(self._feeding, self._model)  # for this engine alone: its images must not lie beside the next one
        for batch in sorted({1, self._settings.batch_size}):
            self._observer.phase(precision, f"{WHOLE}, batch {batch}", seconds)
            times = way.measure(engine, batch, seconds, self._interruption)
            if times is not None:
                yield times
            if self._interruption.requested:
                break

    def _batch(self, name: ScenarioName) -> int:
        return {
            ScenarioName.offline: self._settings.batch_size,
            ScenarioName.multi_stream: self._settings.samples_per_query,
        }.get(name, 1)

    def _scenario(self, name: ScenarioName, batch: int, warm_queries_per_s: float, rate: float) -> Scenario:
        if name is ScenarioName.server:
            return self._server(rate)
        reason = "benchmark.driver is own" if self._settings.driver is Driver.own else loadgen.why_not(name.value)
        if not reason:
            return loadgen.LoadGen(name.value, batch, warm_queries_per_s)
        if self._settings.driver is Driver.loadgen:
            raise RuntimeUnavailable(f"benchmark.driver asks for LoadGen: {reason}; or set benchmark.driver=auto")
        return Offline() if name is ScenarioName.offline else SingleStream(name.value)

    def _server(self, rate: float, allowed_late: int = 0) -> Server:
        settings = self._settings.server
        return Server(
            rate, max_batch=settings.max_batch, late_ns=int(settings.latency_ms * NS / 1e3), allowed_late=allowed_late
        )

    def _probe(self, system: EngineSystem, precision: str, rate: float) -> server.Probe:
        settings = self._settings.server
        self._observer.phase(precision, f"server at {rate:.0f} queries/s", settings.probe_seconds)
        scheduled = max(1, int(rate * settings.probe_seconds))
        allowed = int(scheduled * (1 - settings.percentile / 100))
        samples = self.drive(self._server(rate, allowed + 1), system, 1, settings.probe_seconds, 1)
        ordered = 1e3 * np.sort(samples.latency_seconds)
        at = float(ordered[rank(len(ordered), round(10 * settings.percentile))]) if len(ordered) else float("inf")
        return server.Probe(rate, len(samples), at, samples.complete and at <= settings.latency_ms)

    def _device_times(
        self, engine: TimedEngine, precision: str, system: EngineSystem, samples: Samples
    ) -> tuple[npt.NDArray[np.float64], Mapping[str, npt.NDArray[np.float64]]]:
        if not samples.complete:
            return np.empty(0), {}
        self._observer.phase(precision, "device time", DEVICE_SECONDS)
        repeats = int(np.clip(DEVICE_SECONDS / 2 * samples.queries_per_second, 10, 1000))
        return engine.device_seconds(system.feeds(), repeats), engine.phase_seconds(system.feeds(), repeats)
