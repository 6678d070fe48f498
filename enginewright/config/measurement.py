"""Time of layers and engines under steady load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from enginewright.config.choices import Driver, ScenarioName
from enginewright.config.setting import setting


@dataclass
class ProfileLayers:
    """Time of each layer of each engine."""

    batch_size: int = setting(32, minimum=1, help="images of a run")
    runs: int = setting(50, minimum=1, help="timed runs of each engine")


@dataclass
class ServerLoad:
    """Scenario server: queries of one image, arriving by a Poisson process."""

    queries_per_s: Optional[float] = setting(
        None, above=0, help="null searches for the highest rate that holds the bound"
    )
    latency_ms: float = setting(15.0, above=0, help="the bound; 15 ms is MLPerf's for ResNet-50")
    percentile: float = setting(99.0, minimum=50, below=100, help="of the queries, in percent, must keep the bound")
    probe_seconds: float = setting(2.0, above=0, help="of each rate that the search tries")
    max_batch: int = setting(8, minimum=1, help="queries that have arrived go together, up to so many")


@dataclass
class Stability:
    """What a load must keep to be called stable."""

    maximum_drift_percent: float = setting(5.0, minimum=0, help="from start to end, if a test finds a trend")
    maximum_coefficient_of_variation: float = setting(
        0.025, minimum=0, help="between windows; trtexec warns beyond 2.5 %"
    )
    minimum_last_to_first: float = setting(
        0.95, minimum=0, maximum=1, help="throughput of the last minute over the first, or of halves of a shorter load"
    )
    significance: float = setting(0.01, above=0, below=1, help="of the trend test")


@dataclass
class Benchmark:
    """Steady load on every engine."""

    scenarios: list[ScenarioName] = setting(
        [ScenarioName.single_stream, ScenarioName.offline], help="how queries arrive, by MLPerf Inference's names"
    )
    driver: Driver = setting(
        Driver.auto, help="who issues the queries; auto takes MLPerf LoadGen where it is installed"
    )
    seconds: float = setting(10.0, above=0, help="of steady load for each precision and scenario")
    warmup_seconds: float = setting(1.0, minimum=0, help="before each load")
    window_seconds: float = setting(1.0, above=0, help="of the time series")
    batch_size: int = setting(32, minimum=1, help="images of a query of offline")
    samples_per_query: int = setting(8, minimum=1, help="images of a query of multi_stream")
    batch_curve: list[int] = setting(
        [1, 2, 4, 8, 16, 32], minimum=1, help="batch sizes whose throughput is measured one by one"
    )
    batch_curve_seconds: float = setting(1.0, above=0, help="for each batch size")
    whole_seconds: float = setting(
        0.5, minimum=0, help="of preprocessing, engine and postprocessing in turn, for batch 1 and batch_size; 0: none"
    )
    server: ServerLoad = field(default_factory=ServerLoad)
    stability: Stability = field(default_factory=Stability)
