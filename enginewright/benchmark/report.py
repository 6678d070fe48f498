"""Metrics, tables and terminal output of benchmark_sustained."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

import enginewright
from enginewright.benchmark.clock import NS
from enginewright.benchmark.load import Measurement
from enginewright.benchmark.percentiles import rank
from enginewright.benchmark.telemetry import GPU_COLUMNS, throttle_names
from enginewright.config import Benchmark
from enginewright.manifest import Manifest
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import pandas as pd

PER_MILLES = [*range(10, 990, 10), *range(990, 1000)]
DISTURBING_CORES = 0.2  # busy with other processes, on average
DIGEST = 12  # hex digits of a sha256 that people see


def metrics(
    measured: Mapping[str, Measurement],
    manifests: Mapping[str, Manifest],
    telemetry: pd.DataFrame,
    settings: Benchmark,
    target: TargetFingerprint,
) -> dict[str, Any]:
    """Figures nested by precision, their ratios within this run, and what they hang on. Keys of `measured` are precisions."""
    found: dict[str, Any] = {}
    for precision, measurement in measured.items():
        figures = {**measurement.metrics(), **_telemetry_figures(telemetry[telemetry["precision"] == precision]), "engine_sha256": manifests[precision].sha256}
        peaks = [value for key, value in figures.items() if key.startswith("resident_mib_")]
        found[precision] = {**figures, "resident_mib_max": max(peaks)}
    found["ratio"] = ratios({precision: measurement.samples.images_per_second for precision, measurement in measured.items()})
    found["settings"] = {
        "batch_size": settings.batch_size,
        "seconds": settings.seconds,
        "warmup_seconds": settings.warmup_seconds,
        "window_seconds": settings.window_seconds,
    }
    found["target"] = {name: str(value) for name, value in {**target.to_dict(), "instruction_sets": " ".join(target.instruction_sets)}.items() if value}
    found["versions"] = {"enginewright": enginewright.__version__, "python": platform.python_version(), "numpy": importlib.metadata.version("numpy")}
    # DVC's run-cache may bring old figures back without a run: the date says when they were measured.
    found["measured_at"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")
    return found


def ratios(throughput: Mapping[str, float]) -> dict[str, float]:
    """Throughput of each precision over that of FP32, as `fp16_to_fp32`; empty without FP32."""
    base = throughput.get("fp32", 0.0)
    return {f"{precision}_to_fp32": value / base for precision, value in throughput.items() if precision != "fp32" and base > 0}


def tables(measured: Mapping[str, Measurement], telemetry: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The series for people and plots, by file name: each has a column `precision`, seconds count from the start of its load."""
    return {
        "batch_curve.csv": _joined({precision: measurement.curve for precision, measurement in measured.items()}),
        "latency.csv": _joined({precision: latency_distribution(measurement) for precision, measurement in measured.items()}),
        "telemetry.csv": _since_load(measured, telemetry),
        "windows.csv": _joined({precision: measurement.windows for precision, measurement in measured.items()}),
    }


def latency_distribution(measurement: Measurement) -> pd.DataFrame:
    """Order statistics of the latency, percentile by percentile: columns percentile, latency_ms."""
    import pandas as pd

    ordered = 1e3 * np.sort(measurement.samples.latency_seconds)
    values = [float(ordered[rank(len(ordered), per_mille)]) for per_mille in PER_MILLES] if len(ordered) else []
    return pd.DataFrame({"percentile": np.array(PER_MILLES[: len(values)]) / 10, "latency_ms": values})


def show(found: Mapping[str, Any], measured: Mapping[str, Measurement], telemetry_note: str) -> None:
    """Print the precisions side by side, with what the figures hang on."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    target, settings = found["target"], found["settings"]
    load = f"Steady load, {found['scenario']}, batch {settings['batch_size']}, {settings['seconds']:g} s each"
    title = f"{load}: {target['device']}, {target['runtime']} {target['runtime_version']}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for precision in measured:
        table.add_column(precision, justify="right")
    for name, key, form in ROWS:
        table.add_row(name, *(format(found[precision][key], form) if key in found[precision] else "-" for precision in measured))
    table.add_row("throughput / fp32", *(f"{found['ratio'].get(f'{precision}_to_fp32', 1):.2f}" for precision in measured))
    table.add_row("engine sha256", *(found[precision]["engine_sha256"][:DIGEST] for precision in measured))
    console.print(table)
    for precision in measured:
        for key in ("percentiles_left_out", "throttled"):
            if key in found[precision]:
                console.print(f"{precision}: {key.replace('_', ' ')}: {found[precision][key]}", highlight=False)
        busy = found[precision].get("other_cores_busy_mean", 0.0)
        if busy > DISTURBING_CORES:
            console.print(f"{precision}: other processes kept {busy:.1f} of {psutil.cpu_count()} cores busy; these figures are disturbed", highlight=False)
    if telemetry_note:
        console.print(telemetry_note)
    if not found["complete"]:
        console.print("INCOMPLETE: the load was interrupted; these figures cover what was measured until then.")


ROWS = [
    ("throughput (images/s)", "throughput_images_per_s", ".1f"),
    ("latency mean (ms)", "latency_ms_mean", ".3f"),
    ("latency p50 (ms)", "latency_ms_p50", ".3f"),
    ("latency p90 (ms)", "latency_ms_p90", ".3f"),
    ("latency p95 (ms)", "latency_ms_p95", ".3f"),
    ("latency p99 (ms)", "latency_ms_p99", ".3f"),
    ("latency p99.9 (ms)", "latency_ms_p99_9", ".3f"),
    ("latency max (ms)", "latency_ms_max", ".3f"),
    ("device time p50 (ms)", "device_ms_p50", ".3f"),
    ("last / first window", "last_to_first_window", ".3f"),
    ("drift (%)", "throughput_drift_percent", "+.1f"),
    ("resident memory, max (MiB)", "resident_mib_max", ".0f"),
]


def _joined(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    filled = [part.assign(precision=precision)[["precision", *part.columns]] for precision, part in parts.items() if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=["precision"])


def _since_load(measured: Mapping[str, Measurement], telemetry: pd.DataFrame) -> pd.DataFrame:
    parts = {}
    for precision, measurement in measured.items():
        rows = telemetry[(telemetry["precision"] == precision) & (telemetry["phase"] == "load")]
        if len(measurement.samples) and len(rows):
            seconds = (rows["clock_ns"] - measurement.samples.due_ns[0]) / NS
            parts[precision] = rows.drop(columns=["clock_ns", "precision", "phase"]).assign(seconds=seconds.clip(lower=0))
    joined = _joined(parts)
    return joined[["precision", "seconds", *(column for column in joined if column not in ("precision", "seconds"))]] if parts else joined


def _telemetry_figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Means over the load of what could be read, the highest resident memory of all phases, and throttling."""
    found: dict[str, Any] = {}
    load = rows[rows["phase"] == "load"]
    for column in ("cpu_frequency_mhz", *(name for name in GPU_COLUMNS if name != "throttle_reasons")):
        if column in load and load[column].notna().any():
            found[f"{column}_mean"] = float(load[column].mean())
    if len(load):  # both columns are percent: of the whole machine, and of one core
        cores = psutil.cpu_count() or 1
        found["other_cores_busy_mean"] = max(float((load["cpu_utilization_percent"] * cores - load["process_cpu_percent"]).mean()) / 100, 0.0)
    if len(rows):
        found["resident_mib_observed"] = float(rows["rss_mib"].max())
    if "throttle_reasons" in load and load["throttle_reasons"].notna().any():
        names = sorted({name for reasons in load["throttle_reasons"].dropna() for name in throttle_names(int(reasons))})
        found["throttled"] = ", ".join(names) if names else "no"
    return found
