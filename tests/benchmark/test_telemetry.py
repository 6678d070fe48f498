"""Telemetry on a machine without the GPU that was asked for."""

from __future__ import annotations

import math
import os

from enginewright.benchmark.observer import Observer
from enginewright.benchmark.telemetry import CPU_COLUMNS, Telemetry, throttle_names


def test_own_memory_is_read() -> None:
    row = Telemetry(os.getpid(), None).read()
    assert tuple(row) == (*CPU_COLUMNS, "other_processes")
    assert float(row["rss_mib"]) > 1
    assert math.isfinite(float(row["cpu_utilization_percent"]))


def test_absent_gpu_is_said() -> None:
    telemetry = Telemetry(os.getpid(), "No Such GPU")
    assert telemetry.absent.startswith("no GPU telemetry: ")
    assert telemetry.columns == (*CPU_COLUMNS, "other_processes")
    assert telemetry.device_state() == {}


def test_idle_is_no_throttling() -> None:
    assert throttle_names(0b1) == []
    assert throttle_names((1 << 2) | (1 << 6)) == ["software power cap", "hardware thermal slowdown"]


def test_observer_labels_each_row_with_its_phase() -> None:
    with Observer("No Such GPU") as observer:
        observer.phase("fp32", "load", 0.1)
        observer.phase("int8", "load", 0.1)
        observer.close()
        table = observer.table()
    assert set(table["precision"]) <= {"fp32", "int8"}
    assert table["precision"].iloc[-1] == "int8"
    assert observer.absent.startswith("no GPU telemetry")
