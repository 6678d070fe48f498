"""benchmark_sustained in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil

from enginewright.config import Precision, ScenarioName
from enginewright.results.speed import ENGINE, PARTS, LoadSpeed, SpeedResult

if TYPE_CHECKING:
    from rich.console import Console

DIGEST = 12  # hex digits of a sha256 that people see


def show(result: SpeedResult, telemetry_note: str) -> None:
    """Print the precisions side by side, with what the figures depend on; `telemetry_note` is what was not watched."""
    from rich.console import Console

    console = Console()
    for scenario in () if result.settings is None else result.settings.scenarios:
        _loads(console, result, scenario)
    for batch in sorted({way.batch_size for engine in result.engines.values() for way in engine.whole}):
        _whole(console, result, batch)
    if result.shape is not None:
        console.print(f"Fed with {result.shape.says()}.", highlight=False)
    for precision, engine in result.engines.items():
        curve = engine.batch_curve
        knee = f"; 95 % of the best throughput from batch {curve['knee_batch']} on" if curve else ""
        memory = f"resident memory up to {engine.resident_mib['max']:.0f} MiB"
        console.print(f"{precision.value}: engine {engine.engine_sha256[:DIGEST]}, {memory}{knee}", highlight=False)
    if telemetry_note:
        console.print(telemetry_note)
    if not result.complete:
        console.print("INCOMPLETE: the load was interrupted; these figures cover what was measured until then.")


def _loads(console: Console, result: SpeedResult, scenario: ScenarioName) -> None:
    """One scenario: a column for each precision that was loaded."""
    from rich.table import Table

    loads = {name: load for name in result.engines if (load := result.load(name, scenario)) is not None}
    if not loads or result.settings is None:
        return
    first = next(iter(loads.values()))
    title = (
        f"{scenario.value} ({DRIVERS[first.words['driver']]}), batch {first.figures['batch_size']},"
        f" {result.settings.seconds:g} s each: {result.origin.machine}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for precision in loads:
        table.add_column(precision.value, justify="right")
    for name, key, form in ROWS:
        if any(key in load.figures for load in loads.values()):
            cells = (load.figures.get(key) for load in loads.values())
            table.add_row(name, *("-" if value is None else format(value, form) for value in cells))
    ratios = result.ratios(scenario)
    with_fp32 = Precision.fp32 in loads
    table.add_row(
        "throughput / fp32", *(f"{ratios.get(precision, 1):.2f}" if with_fp32 else "-" for precision in loads)
    )
    console.print(table)
    for precision, load in loads.items():
        for note in _notes(load):
            console.print(f"{precision.value}, {scenario.value}: {note}", highlight=False)


def _whole(console: Console, result: SpeedResult, batch: int) -> None:
    """Preprocessing, engine and postprocessing of batches of one size: a column for each precision."""
    from rich.table import Table

    measured = {name: way for name, engine in result.engines.items() for way in engine.whole if way.batch_size == batch}
    table = Table(title=f"whole way of an image, batch {batch}, one after the other", title_justify="left")
    table.add_column("")
    for precision in measured:
        table.add_column(precision.value, justify="right")
    for name, key, form in WHOLE_ROWS:
        if any(key in way.figures for way in measured.values()):
            cells = (way.figures.get(key) for way in measured.values())
            table.add_row(name, *("-" if value is None else format(value, form) for value in cells))
    console.print(table)
    for said in dict.fromkeys(f"no {part}ing: {why}" for way in measured.values() for part, why in way.absent.items()):
        console.print(said, highlight=False)


def _notes(load: LoadSpeed) -> Iterator[str]:
    for key, quiet in (("percentiles_left_out", ""), ("throttled", "no"), ("other_processes", "none")):
        if said := load.named(key, quiet):
            yield f"{key.replace('_', ' ')}: {said}"
    if not load.stable and "stability" in load.words:
        yield f"{'stability' if load.stable is None else 'not stable'}: {load.words['stability']}"
    if busy := load.disturbed_by:
        yield f"other processes kept {busy:.1f} of {psutil.cpu_count()} cores busy; these figures are disturbed"


DRIVERS = {"own": "own driver, unofficial", "loadgen": "MLPerf LoadGen, unofficial"}
WHOLE_ROWS = [
    *((f"{part}{'' if part == ENGINE else 'ing'} p50 (ms)", f"{part}_ms_p50", ".3f") for part in PARTS),
    ("images/s, engine alone", "images_per_s_engine", ".1f"),
    ("images/s, all in turn", "images_per_s_whole", ".1f"),
]
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
