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
from enginewright.benchmark import server
from enginewright.benchmark.clock import NS
from enginewright.benchmark.load import Load, Measurement
from enginewright.benchmark.percentiles import rank
from enginewright.benchmark.telemetry import GPU_COLUMNS, throttle_names
from enginewright.benchmark.windows import stability
from enginewright.config import Benchmark
from enginewright.manifest import Manifest
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

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
        rows = telemetry[telemetry["precision"] == precision]
        figures = {**measurement.metrics(), "engine_sha256": manifests[precision].sha256}
        for scenario, load in measurement.loads.items():
            figures[scenario].update({**stability(load.windows), **_telemetry_figures(rows[rows["phase"] == scenario])})
        if len(rows):
            figures["resident_mib_observed"] = float(rows["rss_mib"].max())
        figures["resident_mib_max"] = max(value for key, value in figures.items() if key.startswith("resident_mib_"))
        found[precision] = figures
    found["ratio"] = {
        scenario.value: ratios({name: one.loads[scenario.value].samples.images_per_second for name, one in measured.items() if scenario.value in one.loads})
        for scenario in settings.scenarios
    }
    found["settings"] = {
        "scenarios": [scenario.value for scenario in settings.scenarios],
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
    """The series for people and plots, by file name: each has a column `precision`; seconds count from the start of the scenario's load."""
    loads = {(precision, scenario): load for precision, measurement in measured.items() for scenario, load in measurement.loads.items()}
    probed = {key: server.table(list(load.probes)) for key, load in loads.items() if load.probes}
    return {
        "batch_curve.csv": _joined({(precision,): measurement.curve for precision, measurement in measured.items()}),
        "latency.csv": _joined({key: latency_distribution(load) for key, load in loads.items()}),
        "telemetry.csv": _since_load(loads, telemetry),
        **({"server_search.csv": _joined(probed)} if probed else {}),
        "windows.csv": _joined({key: load.windows for key, load in loads.items()}),
    }


def latency_distribution(load: Load) -> pd.DataFrame:
    """Order statistics of the latency, percentile by percentile: columns percentile, latency_ms."""
    import pandas as pd

    ordered = 1e3 * np.sort(load.samples.latency_seconds)
    values = [float(ordered[rank(len(ordered), per_mille)]) for per_mille in PER_MILLES] if len(ordered) else []
    return pd.DataFrame({"percentile": np.array(PER_MILLES[: len(values)]) / 10, "latency_ms": values})


def show(found: Mapping[str, Any], measured: Mapping[str, Measurement], telemetry_note: str) -> None:
    """Print the precisions side by side, with what the figures hang on."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    target, settings = found["target"], found["settings"]
    machine = f"{target['device']}, {target['runtime']} {target['runtime_version']}"
    for scenario in settings["scenarios"]:
        loads = {precision: found[precision][scenario] for precision in measured if scenario in found[precision]}
        if not loads:
            continue
        first = next(iter(loads.values()))
        title = f"{scenario} ({DRIVERS[first['driver']]}), batch {first['batch_size']}, {settings['seconds']:g} s each: {machine}"
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for precision in loads:
            table.add_column(precision, justify="right")
        for name, key, form in ROWS:
            if any(key in load for load in loads.values()):
                table.add_row(name, *(format(load[key], form) if key in load else "-" for load in loads.values()))
        table.add_row("throughput / fp32", *(f"{found['ratio'][scenario].get(f'{precision}_to_fp32', 1):.2f}" for precision in loads))
        console.print(table)
        for precision, load in loads.items():
            _notes(console, f"{precision}, {scenario}", load)
    for precision in measured:
        curve = found[precision]["batch_curve"]
        knee = f"; 95 % of the best throughput from batch {curve['knee_batch']} on" if curve else ""
        memory = f"resident memory up to {found[precision]['resident_mib_max']:.0f} MiB"
        console.print(f"{precision}: engine {found[precision]['engine_sha256'][:DIGEST]}, {memory}{knee}", highlight=False)
    if telemetry_note:
        console.print(telemetry_note)
    if not found["complete"]:
        console.print("INCOMPLETE: the load was interrupted; these figures cover what was measured until then.")


def _notes(console: Console, where: str, load: Mapping[str, Any]) -> None:
    for key in ("percentiles_left_out", "throttled"):
        if load.get(key, "no") != "no":
            console.print(f"{where}: {key.replace('_', ' ')}: {load[key]}", highlight=False)
    busy = load.get("other_cores_busy_mean", 0.0)
    if busy > DISTURBING_CORES:
        console.print(f"{where}: other processes kept {busy:.1f} of {psutil.cpu_count()} cores busy; these figures are disturbed", highlight=False)


DRIVERS = {"own": "own driver, unofficial", "loadgen": "MLPerf LoadGen, unofficial"}
ROWS = [
    ("throughput (images/s)", "throughput_images_per_s", ".1f"),
    ("  without transfers", "throughput_images_per_s_without_transfers", ".1f"),
    ("highest rate in the bound (queries/s)", "highest_queries_per_s", ".1f"),
    ("latency mean (ms)", "latency_ms_mean", ".3f"),
    ("latency p50 (ms)", "latency_ms_p50", ".3f"),
    ("latency p90 (ms)", "latency_ms_p90", ".3f"),
    ("latency p95 (ms)", "latency_ms_p95", ".3f"),
    ("latency p99 (ms)", "latency_ms_p99", ".3f"),
    ("latency p99.9 (ms)", "latency_ms_p99_9", ".3f"),
    ("latency max (ms)", "latency_ms_max", ".3f"),
    ("device time p50 (ms)", "device_ms_p50", ".3f"),
    ("  enqueue p50 (ms)", "enqueue_ms_p50", ".3f"),
    ("  H2D p50 (ms)", "h2d_ms_p50", ".3f"),
    ("  compute p50 (ms)", "compute_ms_p50", ".3f"),
    ("  D2H p50 (ms)", "d2h_ms_p50", ".3f"),
    ("last / first window", "last_to_first_window", ".3f"),
    ("drift (%)", "throughput_drift_percent", "+.1f"),
]


def _joined(parts: Mapping[Any, pd.DataFrame]) -> pd.DataFrame:
    """One table of many, with columns precision and scenario in front; keys are (precision,) or (precision, scenario)."""
    import pandas as pd

    filled = []
    for key, part in parts.items():
        names = dict(zip(("precision", "scenario"), key))
        if len(part):
            filled.append(part.assign(**names)[[*names, *part.columns]])
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=["precision"])


def _since_load(loads: Mapping[tuple[str, str], Load], telemetry: pd.DataFrame) -> pd.DataFrame:
    parts = {}
    for (precision, scenario), load in loads.items():
        rows = telemetry[(telemetry["precision"] == precision) & (telemetry["phase"] == scenario)]
        if len(load.samples) and len(rows):
            seconds = (rows["clock_ns"] - load.samples.due_ns[0]) / NS
            rest = rows.drop(columns=["clock_ns", "precision", "phase"])
            rest.insert(0, "seconds", seconds.clip(lower=0))
            parts[precision, scenario] = rest
    return _joined(parts)


def _telemetry_figures(load: pd.DataFrame) -> dict[str, Any]:
    """Means over the load of what could be read, and throttling."""
    found: dict[str, Any] = {}
    for column in ("cpu_frequency_mhz", *(name for name in GPU_COLUMNS if name != "throttle_reasons")):
        if column in load and load[column].notna().any():
            found[f"{column}_mean"] = float(load[column].mean())
    if len(load):  # both columns are percent: of the whole machine, and of one core
        cores = psutil.cpu_count() or 1
        found["other_cores_busy_mean"] = max(float((load["cpu_utilization_percent"] * cores - load["process_cpu_percent"]).mean()) / 100, 0.0)
    if "throttle_reasons" in load and load["throttle_reasons"].notna().any():
        names = sorted({name for reasons in load["throttle_reasons"].dropna() for name in throttle_names(int(reasons))})
        found["throttled"] = ", ".join(names) if names else "no"
    return found
