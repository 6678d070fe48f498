"""Result and tables of benchmark_sustained."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from enginewright._version import __version__
from enginewright.benchmark import server
from enginewright.benchmark.clock import NS
from enginewright.benchmark.conditions import conditions, flagged
from enginewright.benchmark.curve import knee
from enginewright.benchmark.load import WHOLE, Load, Measurement
from enginewright.benchmark.percentiles import percentiles, rank
from enginewright.benchmark.run import Run
from enginewright.benchmark.stability import stability
from enginewright.config import Benchmark, Precision, ScenarioName
from enginewright.manifest import Manifest
from enginewright.results.origin import Origin
from enginewright.results.speed import EngineSpeed, LoadSettings, LoadSpeed, SpeedResult
from enginewright.runtimes.built import Engines, origin_of
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import pandas as pd

SEALED = "windows.csv"  # written last, for all tables
PER_MILLES = [*range(10, 990, 10), *range(990, 1000)]
SLOW = 0.9  # of the median throughput: a window below is marked in the plot


def result_of(
    run: Run, engines: Engines, images: Sequence[Path], settings: Benchmark, target: TargetFingerprint
) -> SpeedResult:
    """What benchmark_sustained found; `images` are the sealed files of the set."""
    manifests = {precision.value: made for precision, made in engines.manifests.items()}
    origin = origin_of(next(iter(manifests.values())), target, images)
    return result(run, manifests, settings, origin)


def result(run: Run, manifests: Mapping[str, Manifest], settings: Benchmark, origin: Origin) -> SpeedResult:
    """The figures of a run, and what they depend on. Keys of `manifests` are precisions or other names of engines."""
    return SpeedResult(
        {
            Precision(name): _engine(
                measurement, manifests[name].sha256, run.telemetry[run.telemetry["precision"] == name], settings
            )
            for name, measurement in run.measured.items()
        },
        LoadSettings(
            tuple(settings.scenarios),
            settings.batch_size,
            settings.seconds,
            settings.warmup_seconds,
            settings.window_seconds,
        ),
        origin,
        {
            "enginewright": __version__,
            "python": platform.python_version(),
            "numpy": importlib.metadata.version("numpy"),
        },
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        run.device_state,
        run.complete,
        run.shape,
    )


def _engine(measurement: Measurement, digest: str, rows: pd.DataFrame, settings: Benchmark) -> EngineSpeed:
    """One engine; `rows` are its telemetry."""
    loads = {}
    for name, load in measurement.loads.items():
        watched = during(load, rows[rows["phase"] == name])
        images = len(load.samples) * load.samples.batch
        found = {
            **load.metrics(),
            **stability(load.windows, settings.stability),
            **conditions(watched, images),
            **_busy(watched),
        }
        loads[ScenarioName(name)] = LoadSpeed.of(found)
    resident = dict(measurement.resident_mib)
    loaded = rows[~rows["phase"].astype(str).str.startswith(WHOLE)]  # which holds images of its own beside the engine
    if len(loaded):
        resident["observed"] = float(loaded["rss_mib"].max())
    resident["max"] = max(resident.values())
    whole = tuple(times.speed() for times in measurement.whole)
    return EngineSpeed(digest, loads, knee(measurement.curve), resident, whole)


def tables(measured: Mapping[str, Measurement], telemetry: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The series for people and plots, by file name: each has a column `precision`; seconds count from the start of the
    scenario's load.
    """
    loads = {
        (precision, scenario): load
        for precision, measurement in measured.items()
        for scenario, load in measurement.loads.items()
    }
    watched = {
        (precision, scenario): during(
            load, telemetry[(telemetry["precision"] == precision) & (telemetry["phase"] == scenario)]
        )
        for (precision, scenario), load in loads.items()
    }
    probed = {key: server.table(list(load.probes)) for key, load in loads.items() if load.probes}
    return {
        "batch_curve.csv": _joined({(precision,): measurement.curve for precision, measurement in measured.items()}),
        "latency.csv": _joined({key: latency_distribution(load) for key, load in loads.items()}),
        "telemetry.csv": _joined(watched),
        "timeline.csv": _joined({key: timeline(load, watched[key]) for key, load in loads.items()}),
        "whole.csv": _joined({(precision,): whole_way(measurement) for precision, measurement in measured.items()}),
        **({"server_search.csv": _joined(probed)} if probed else {}),
        SEALED: _joined({key: load.windows for key, load in loads.items()}),
    }


def whole_way(measurement: Measurement) -> pd.DataFrame:
    """The median of each part of an image's way: columns batch (in words), part, ms (of a batch), ms_per_image."""
    import pandas as pd

    rows = []
    for times in measurement.whole:
        for part, seconds in times.seconds.items():
            if "p50" in (found := percentiles(seconds)):
                batch, ms = f"batch {times.batch}", 1e3 * found["p50"]
                rows.append({"batch": batch, "part": part, "ms": ms, "ms_per_image": ms / times.batch})
    return pd.DataFrame(rows)


def latency_distribution(load: Load) -> pd.DataFrame:
    """Order statistics of the latency, percentile by percentile: columns percentile, latency_ms."""
    import pandas as pd

    ordered = 1e3 * np.sort(load.samples.latency_seconds)
    values = [float(ordered[rank(len(ordered), per_mille)]) for per_mille in PER_MILLES] if len(ordered) else []
    return pd.DataFrame({"percentile": np.array(PER_MILLES[: len(values)]) / 10, "latency_ms": values})


PANELS = {
    "sm_clock_mhz": "SM clock (MHz)",
    "cpu_frequency_mhz": "CPU clock (MHz)",
    "gpu_temperature_c": "GPU temperature (C)",
    "cpu_temperature_c": "CPU temperature (C)",
    "power_w": "power (W)",
}


def timeline(load: Load, watched: pd.DataFrame) -> pd.DataFrame:
    """Throughput, clocks, temperature and power over the time of one load, for a plot with a panel each.

    Returns:
        Columns seconds, panel, value, note ("throttled", "slow": a window under 0.9 of the median, or "").
    """
    import pandas as pd

    rates = load.windows.get("throughput_images_per_s", pd.Series(dtype=float))
    slow = np.where(rates < SLOW * rates.median(), "slow", "")
    parts = [
        pd.DataFrame(
            {
                "seconds": load.windows.get("seconds", rates),
                "panel": "throughput (images/s)",
                "value": rates,
                "note": slow,
            }
        )
    ]
    notes = np.where(flagged(watched), "throttled", "")
    gpu = "sm_clock_mhz" in watched
    for column, panel in PANELS.items():
        if column in watched and watched[column].notna().any() and not (gpu and column.startswith("cpu_")):
            parts.append(
                pd.DataFrame({"seconds": watched["seconds"], "panel": panel, "value": watched[column], "note": notes})
            )
    return pd.concat(parts, ignore_index=True)


def _joined(parts: Mapping[Any, pd.DataFrame]) -> pd.DataFrame:
    """One table of many, with columns precision and scenario in front; keys are (precision,) or (precision,
    scenario).
    """
    import pandas as pd

    filled = []
    for key, part in parts.items():
        names = dict(zip(("precision", "scenario"), key))
        if len(part):
            filled.append(part.assign(**names)[[*names, *part.columns]])
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=["precision"])


def during(load: Load, rows: pd.DataFrame) -> pd.DataFrame:
    """The telemetry of a load: `seconds` from its first query in place of the clock, without precision and phase."""
    rest = rows.drop(columns=["clock_ns", "precision", "phase"])
    start = load.samples.due_ns[0] if len(load.samples) else 0
    rest.insert(0, "seconds", ((rows["clock_ns"] - start) / NS).clip(lower=0) if len(load.samples) else np.nan)
    return rest if len(load.samples) else rest.iloc[:0]


def _busy(load: pd.DataFrame) -> dict[str, float]:
    """Cores that others kept busy on average; both columns are percent: of the whole machine, and of one core."""
    if load.empty:
        return {}
    cores = psutil.cpu_count() or 1
    return {
        "other_cores_busy_mean": max(
            float((load["cpu_utilization_percent"] * cores - load["process_cpu_percent"]).mean()) / 100, 0.0
        )
    }
