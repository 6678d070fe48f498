"""What benchmark_sustained finds: every engine under each load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from enginewright.config import Precision, ScenarioName
from enginewright.results.origin import Origin
from enginewright.results.record import Record
from enginewright.results.shape import SampleShape

DISTURBING_CORES = 0.2  # busy with other processes, on average
THROUGHPUT = "throughput_images_per_s"
PREPROCESS, ENGINE, POSTPROCESS = PARTS = ("preprocess", "engine", "postprocess")  # of an image's way


@dataclass(frozen=True)
class LoadSpeed(Record):
    """One scenario on one engine."""

    figures: Mapping[str, float]  # each with its unit in its name
    words: Mapping[str, str] = field(default_factory=dict)  # driver, stability, throttled, other_processes, ...
    stable: Optional[bool] = None  # None where the load was too short to judge
    loadgen: Mapping[str, Any] = field(default_factory=dict)  # MLPerf LoadGen's own summary

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> LoadSpeed:
        """Sort what was measured, as it lies side by side in DVC's metrics."""
        own = {key: value for key, value in found.items() if key not in ("stable", "loadgen")}
        words = {key: value for key, value in own.items() if isinstance(value, str)}
        figures = {key: value for key, value in own.items() if key not in words}
        return cls(figures, words, found.get("stable"), found.get("loadgen", {}))

    @property
    def throughput(self) -> float:
        """Images per second; 0 where it was not measured."""
        return self.figures.get(THROUGHPUT, 0.0)

    @property
    def disturbed_by(self) -> Optional[float]:
        """The cores that other processes kept busy, where they were many."""
        busy = self.figures.get("other_cores_busy_mean", 0.0)
        return busy if busy > DISTURBING_CORES else None

    def named(self, key: str, quiet: str) -> Optional[str]:
        """A word, unless it says `quiet`, that there is nothing to tell."""
        said = self.words.get(key, quiet)
        return None if said == quiet else said


@dataclass(frozen=True)
class WholeSpeed(Record):
    """Batches of one size on their whole way: PARTS, one after the other, each timed apart."""

    batch_size: int
    # <part>_ms_p50 and so on of a batch, images_per_s_engine, and images_per_s_whole of all parts that there are
    figures: Mapping[str, float]
    absent: Mapping[str, str] = field(default_factory=dict)  # part -> why there is none


@dataclass(frozen=True)
class EngineSpeed(Record):
    """One engine under every load, batch by batch, and with what stands before and behind it."""

    engine_sha256: str
    loads: Mapping[ScenarioName, LoadSpeed]
    batch_curve: Mapping[str, float]  # its best batch and its knee; empty where there is no curve
    resident_mib: Mapping[str, float]  # moment -> MiB; "max" is the most
    whole: tuple[WholeSpeed, ...] = ()  # by batch size


@dataclass(frozen=True)
class LoadSettings(Record):
    """How long, in what batches and in which scenarios each engine was loaded."""

    scenarios: tuple[ScenarioName, ...]
    batch_size: int  # of offline
    seconds: float
    warmup_seconds: float
    window_seconds: float


@dataclass(frozen=True)
class SpeedResult(Record):
    """Every engine under the same loads, one after the other."""

    engines: Mapping[Precision, EngineSpeed]
    settings: Optional[LoadSettings]  # None in figures that do not say it
    origin: Origin
    versions: Mapping[str, str]
    measured_at: str  # ISO 8601, UTC: DVC's run-cache may bring figures of old back without a run
    device_state: Mapping[str, Any]  # of the GPU before the load
    complete: bool = True  # False where Ctrl-C ended it
    shape: Optional[SampleShape] = None  # of what the engines were fed

    def load(self, precision: Precision, scenario: ScenarioName) -> Optional[LoadSpeed]:
        """One load, if there was one."""
        engine = self.engines.get(precision)
        return None if engine is None else engine.loads.get(scenario)

    def figure(self, precision: Precision, scenario: ScenarioName, key: str) -> Optional[float]:
        """A figure of one load, if it was measured."""
        load = self.load(precision, scenario)
        return None if load is None else load.figures.get(key)

    def whole(self, precision: Precision, largest: bool) -> Optional[WholeSpeed]:
        """The whole way of one image at a time or, `largest`, of the largest batch; None where it was not measured."""
        engine = self.engines.get(precision)
        measured = () if engine is None else engine.whole
        found = [way for way in measured if (way.batch_size > 1) is largest]
        return found[-1] if found else None

    def ratios(self, scenario: ScenarioName) -> dict[Precision, float]:
        """Throughput of each precision over that of FP32; empty without FP32."""
        base = self.figure(Precision.fp32, scenario, THROUGHPUT)
        return {
            precision: value / base
            for precision in self.engines
            if base
            and precision is not Precision.fp32
            and (value := self.figure(precision, scenario, THROUGHPUT)) is not None
        }
