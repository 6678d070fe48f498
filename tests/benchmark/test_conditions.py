"""Telemetry, recorded and live: a clock drop, a throttle reason and another process are flagged with their seconds;
energy by the trapezoid.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest

from enginewright.benchmark import neighbours as neighbours_module
from enginewright.benchmark.conditions import conditions, flagged
from enginewright.benchmark.neighbours import Neighbours
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.windows import COLUMNS
from support.neighbours import competing, observed
from support.waiting import HANG_SECONDS, until


def recorded(**columns: object) -> pd.DataFrame:
    """A recording of 200 seconds at 1 Hz, read back from CSV as a file would be."""
    table = pd.DataFrame(
        {"seconds": np.arange(200.0), "sm_clock_mhz": 1980.0, "power_w": 600.0, "throttle_reasons": 0.0}
    )
    return pd.read_csv(StringIO(table.assign(**columns).to_csv(index=False)))  # type: ignore[arg-type]


def test_a_quiet_recording_is_not_flagged() -> None:
    found = conditions(recorded(), images=1000)
    assert (found["throttled"], found["other_processes"]) == ("no", "none")
    assert not flagged(recorded()).any()


def test_a_clock_drop_in_a_recording_is_flagged_with_its_seconds() -> None:
    clocks = np.full(200, 1980.0)
    clocks[120:151] = 1200
    clocks[180] = 1500
    table = recorded(sm_clock_mhz=clocks)
    assert conditions(table, 1)["throttled"] == "sm clock under 90% of 1980 MHz 120-150 s, 180-180 s"
    assert flagged(table).sum() == 32


def test_a_reason_of_nvml_is_named() -> None:
    reasons = np.zeros(200)
    reasons[10:20] = 1 << 6
    reasons[50:60] = 1  # idle is no throttling
    assert conditions(recorded(throttle_reasons=reasons), 1)["throttled"] == "hardware thermal slowdown 10-19 s"


def test_a_cpu_is_judged_by_its_own_clock() -> None:
    clocks = np.where(np.arange(200) < 90, 3000.0, 2000.0)
    table = recorded(cpu_frequency_mhz=clocks).drop(columns=["sm_clock_mhz", "power_w", "throttle_reasons"])
    assert conditions(table, 1)["throttled"] == "cpu frequency under 90% of 3000 MHz 90-199 s"


def test_energy_is_the_trapezoid_of_power() -> None:
    power = 500 + np.arange(200.0)
    found = conditions(recorded(power_w=power), images=4000)
    assert found["energy_j_per_image"] == pytest.approx(np.trapezoid(power, np.arange(200.0)) / 4000)
    assert (found["power_w_mean"], found["power_w_max"]) == (pytest.approx(power.mean()), 699.0)


def test_unknown_power_gives_no_energy() -> None:
    assert "energy_j_per_image" not in conditions(recorded(power_w=np.nan), 10)


def test_others_on_the_gpu_are_named_with_their_memory() -> None:
    seen = [json.dumps([[77, "train.py", 1.0, 2048.0]]) if 30 <= second < 60 else "" for second in range(200)]
    assert (
        conditions(recorded(other_processes=seen), 1)["other_processes"]
        == "train.py (process 77), up to 100% of a core, 2048 MiB of the GPU, 30-59 s"
    )
    unknown = [json.dumps([[9, "a process of another user or container", 0.0, -1.0]])] * 200
    assert "on the GPU, 0-199 s" in conditions(recorded(other_processes=unknown), 1)["other_processes"]


def test_a_competing_process_is_seen_and_ours_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours_module, "LEAST_CORES", 0.0)  # whatever share of a busy machine it gets
    burn = [sys.executable, "-c", "while True: pass"]
    other, measured = subprocess.Popen(burn), subprocess.Popen(["sleep", str(HANG_SECONDS)])
    try:
        neighbours, ours = Neighbours(measured.pid), Neighbours(os.getpid())
        before = psutil.Process(other.pid).cpu_times().user
        until(lambda: psutil.Process(other.pid).cpu_times().user > before + 0.1)
        seen = json.loads(neighbours.read())
        assert next(cpu for pid, _, cpu, _ in seen if pid == other.pid) > 0
        assert other.pid not in {pid for pid, *_ in json.loads(ours.read() or "[]")}  # a child of the measured process
    finally:
        for process in (other, measured):
            process.kill()
            process.wait()


@pytest.mark.parametrize(("busy", "named"), [(0.24, False), (0.3, True), (1.0, True)])
def test_a_process_is_named_from_a_quarter_of_a_core(monkeypatch: pytest.MonkeyPatch, busy: float, named: bool) -> None:
    nobody, seconds, clock = 2**22 - 3, {"cpu": 50.0}, {"now": 100.0}
    monkeypatch.setattr(Neighbours, "_cpu_seconds", staticmethod(lambda: {nobody: seconds["cpu"]}))
    monkeypatch.setattr(neighbours_module, "time", SimpleNamespace(monotonic=lambda: clock["now"]))
    neighbours = Neighbours(os.getpid())
    clock["now"] += 2.0
    seconds["cpu"] += 2.0 * busy
    assert json.loads(neighbours.read() or "[]") == (
        [[nobody, "a process of another user or container", busy, 0.0]] if named else []
    )


def test_the_measured_process_under_the_hosts_number_is_no_other() -> None:
    neighbours, nobody = Neighbours(os.getpid()), 2**22 - 3  # beyond what Linux gives
    assert nobody not in {pid for pid, *_ in json.loads(neighbours.read({nobody: 512.0}) or "[]")}
    seen = json.loads(neighbours.read({nobody: 512.0, nobody + 1: 300.0}))
    assert [nobody + 1, "a process of another user or container", 0.0, 300.0] in seen
    assert neighbours.read({os.getpid(): 512.0}) == "" or str(os.getpid()) not in neighbours.read({os.getpid(): 512.0})


def test_the_observer_names_a_process_that_competes_with_the_load() -> None:
    with competing() as pid, Observer(None) as observer:
        observer.phase("fp32", "offline", 2.5)
        until(lambda: str(pid) in observed(observer))
        observer.close()
        table = observer.table()
    load = table.assign(seconds=(table["clock_ns"] - table["clock_ns"].iloc[0]) / 1e9)
    assert f"(process {pid}), up to " in conditions(load, 1)["other_processes"]


def test_an_empty_recording_says_nothing() -> None:
    assert conditions(recorded().iloc[:0], 1) == {}
    assert len(flagged(pd.DataFrame(columns=COLUMNS))) == 0
