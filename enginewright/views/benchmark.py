"""benchmark_sustained in the terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from rich.console import Console

DISTURBING_CORES = 0.2  # busy with other processes, on average
DIGEST = 12  # hex digits of a sha256 that people see


def show(found: Mapping[str, Any], measured: Collection[str], telemetry_note: str) -> None:
    """Print the precisions side by side, with what the figures depend on."""
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
        title = (
            f"{scenario} ({DRIVERS[first['driver']]}), batch {first['batch_size']}, {settings['seconds']:g} s each:"
            f" {machine}"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for precision in loads:
            table.add_column(precision, justify="right")
        for name, key, form in ROWS:
            if any(key in load for load in loads.values()):
                table.add_row(name, *(format(load[key], form) if key in load else "-" for load in loads.values()))
        table.add_row(
            "throughput / fp32",
            *(_ratio(found["ratio"][scenario], precision, loads) for precision in loads),
        )
        console.print(table)
        for precision, load in loads.items():
            _notes(console, f"{precision}, {scenario}", load)
    for precision in measured:
        curve = found[precision]["batch_curve"]
        knee = f"; 95 % of the best throughput from batch {curve['knee_batch']} on" if curve else ""
        memory = f"resident memory up to {found[precision]['resident_mib_max']:.0f} MiB"
        console.print(
            f"{precision}: engine {found[precision]['engine_sha256'][:DIGEST]}, {memory}{knee}", highlight=False
        )
    if telemetry_note:
        console.print(telemetry_note)
    if not found["complete"]:
        console.print("INCOMPLETE: the load was interrupted; these figures cover what was measured until then.")


def _ratio(ratios_of: Mapping[str, float], precision: str, loads: Mapping[str, Any]) -> str:
    """To FP32's throughput; a dash where FP32 has none."""
    return f"{ratios_of.get(f'{precision}_to_fp32', 1):.2f}" if "fp32" in loads else "-"


def _notes(console: Console, where: str, load: Mapping[str, Any]) -> None:
    for key, quiet in (("percentiles_left_out", ""), ("throttled", "no"), ("other_processes", "none")):
        if load.get(key, quiet) != quiet:
            console.print(f"{where}: {key.replace('_', ' ')}: {load[key]}", highlight=False)
    if not load.get("stable", False) and "stability" in load:
        console.print(
            f"{where}: {'not stable' if 'stable' in load else 'stability'}: {load['stability']}", highlight=False
        )
    busy = load.get("other_cores_busy_mean", 0.0)
    if busy > DISTURBING_CORES:
        console.print(
            f"{where}: other processes kept {busy:.1f} of {psutil.cpu_count()} cores busy; these figures are disturbed",
            highlight=False,
        )


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
    ("last / first minute (or half)", "last_to_first", ".3f"),
    ("variation between windows (%)", "throughput_coefficient_of_variation", ".1%"),
    ("drift (%)", "throughput_drift_percent", "+.1f"),
    ("power mean (W)", "power_w_mean", ".0f"),
    ("energy (J/image)", "energy_j_per_image", ".4f"),
]
