"""tegrastats, by lines recorded on real boards and by a script of that name on the PATH."""

from __future__ import annotations

import json
import math
import os
import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from enginewright.benchmark import tegrastats
from enginewright.benchmark.conditions import conditions
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.tegrastats import UTILITY, Tegrastats, installed, parse
from enginewright.benchmark.telemetry import GPU_COLUMNS, Telemetry
from support.neighbours import observed
from support.waiting import HANG_SECONDS, until

# Recorded lines, shortened only where cores repeat.
NANO = (
    "RAM 2015/3964MB (lfb 98x4MB) SWAP 29/1982MB (cached 3MB) CPU [6%@102,5%@102,4%@102,3%@102] EMC_FREQ 9%@1600"
    " GR3D_FREQ 45%@921 PLL@28C CPU@31.5C PMIC@100C GPU@30.5C AO@36C thermal@31.25C POM_5V_IN 1388/1388 POM_5V_GPU"
    " 122/122 POM_5V_CPU 163/163"
)
TX2 = (
    "RAM 1903/7852MB (lfb 3x4MB) CPU [1%@345,off,off,2%@345] EMC_FREQ 13%@40 GR3D_FREQ 0%@114 APE 150 BCPU@35C MCPU@35C"
    " GPU@41C PLL@35C AO@35.5C Tboard@35C thermal@35.5C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 400/735 VDD_SOC"
    " 400/415 VDD_WIFI 0/0 VDD_DDR 240/348"
)
XAVIER_NX = (
    "RAM 4412/7772MB (lfb 237x4MB) SWAP 139/3886MB (cached 2MB) CPU [9%@1190,6%@1190] EMC_FREQ 10%@1600 GR3D_FREQ"
    " 62%@306 APE 150 MTS fg 0% bg 0% AO@41.5C GPU@43C PMIC@100C AUX@41.5C CPU@43.5C thermal@42.55C VDD_IN 4067/4067"
    " VDD_CPU_GPU_CV 738/738 VDD_SOC 1353/1353"
)
AGX_XAVIER_JP4 = (
    "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU [2%@1190,0%@1190,off,off] EMC_FREQ 0%@665 GR3D_FREQ"
    " 0%@318 APE 150 MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C Tboard@37C"
    " GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482"
)
AGX_XAVIER_JP5 = (
    "CPU [0%@1190,1%@1190] EMC_FREQ 0%@1331 GR3D_FREQ 0%@114 VIC_FREQ 115 APE 150 AUX@36C CPU@36.5C thermal@35.7C"
    " Tboard@37C AO@35C GPU@35C Tdiode@38.75C PMIC@50C GPU 467mW/467mW CPU 467mW/467mW SOC 1245mW/1245mW CV 0mW/0mW"
    " VDDRQ 311mW/311mW SYS5V 2768mW/2768mW"
)
ORIN_NANO_JP6 = (
    "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) CPU [38%@1497,2%@729] EMC_FREQ"
    " 61%@2133 GR3D_FREQ 99%@[612] NVDEC off NVJPG off VIC off OFA off APE 200 cpu@57.125C soc2@55.093C soc0@56.625C"
    " gpu@58.625C tj@58.312C soc1@55.937C VDD_IN 16321mW/11204mW VDD_CPU_GPU_CV 7104mW/4944mW VDD_SOC 3120mW/3659mW"
)
AGX_ORIN_JP7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 GR3D_FREQ"
    " 12%@[1300,1300] NVENC0 off NVDEC0 off VIC off NVDLA0 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C"
    " soc2@48.406C/48.406C gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW"
    " VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
AGX_ORIN_USER = (  # no clock is told, and no EMC
    "RAM 8179/62817MB CPU [35%@729,24%@729] GR3D_FREQ 32% cpu@51.968C/51.968C gpu@47.125C/47.125C tj@51.968C/51.968C"
    " VDD_GPU_SOC 4385mW/3787mW/4385mW VDD_CPU_CV 1196mW/897mW/1196mW VIN_SYS_5V0 5552mW/5274mW/5552mW"
)
THOR = (
    "04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,8%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314]"
    " NVENC0_FREQ @314 VIC off OFA_FREQ @315 PVA0_FREQ off APE 300 cpu@37.343C tj@38.875C soc012@37.468C gpu@38.875C"
    " soc345@37.406C VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW VIN 19780mW/19780mW"
)
NAMES = {"clock": "sm_clock_mhz", "emc": "memory_clock_mhz", "celsius": "gpu_temperature_c", "watts": "power_w"}
NAMES.update({"busy": "gpu_utilization_percent", "memory": "gpu_memory_mib"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            NANO, {"clock": 921, "emc": 1600, "celsius": 30.5, "watts": 1.388, "busy": 45, "memory": 2015}, id="Nano"
        ),
        pytest.param(
            TX2, {"clock": 114, "emc": 40, "celsius": 41, "watts": 2.003, "busy": 0, "memory": 1903}, id="TX2"
        ),
        pytest.param(
            XAVIER_NX,
            {"clock": 306, "emc": 1600, "celsius": 43, "watts": 4.067, "busy": 62, "memory": 4412},
            id="Xavier NX",
        ),
        pytest.param(
            AGX_XAVIER_JP4,
            {"clock": 318, "emc": 665, "celsius": 37.5, "watts": 3.346, "busy": 0, "memory": 721},
            id="AGX Xavier, JetPack 4",
        ),
        pytest.param(
            AGX_XAVIER_JP5,
            {"clock": 114, "emc": 1331, "celsius": 35, "watts": 5.258, "busy": 0},
            id="AGX Xavier, JetPack 5",
        ),
        pytest.param(
            ORIN_NANO_JP6,
            {"clock": 612, "emc": 2133, "celsius": 58.625, "watts": 16.321, "busy": 99, "memory": 6712},
            id="Orin Nano, JetPack 6",
        ),
        pytest.param(
            AGX_ORIN_JP7,
            {"clock": 1300, "emc": 3199, "celsius": 47.625, "watts": 13.907, "busy": 12, "memory": 20642},
            id="AGX Orin, JetPack 7",
        ),
        pytest.param(
            AGX_ORIN_USER,
            {"celsius": 47.125, "watts": 11.133, "busy": 32, "memory": 8179},
            id="AGX Orin, ordinary user",
        ),
        pytest.param(THOR, {"clock": 314, "emc": 2750, "celsius": 38.875, "watts": 19.78, "memory": 105265}, id="Thor"),
        pytest.param(
            "GR3D_FREQ 0%@[0,611] gpu@-256C VDD_GPU_SOC 10mW/10mW VDD_CPU_CV 10mW/10mW",
            {"clock": 611, "busy": 0},
            id="a GPC gated, a rail missing",
        ),
        pytest.param(
            "GR3D_FREQ 0%@[0,0] EMC_FREQ 0%@0 RAM ?/?MB VDD_IN NC/NC GPU@C", {"busy": 0}, id="nothing but a load"
        ),
        pytest.param("GR3D_FREQ off GPU@ RAM", {}, id="not to be read"),
        pytest.param("tegrastats: not a Tegra", {}, id="another sentence"),
    ],
)
def test_a_line_is_read_and_what_it_does_not_say_is_missing(line: str, said: dict[str, float]) -> None:
    assert parse(line) == pytest.approx({NAMES[name]: value for name, value in said.items()})
    assert set(NAMES.values()) < set(GPU_COLUMNS)


SCRIPT = """#!{python}
import json, os, sys, time
from pathlib import Path
folder = Path({folder!r})
(folder / "started.json").write_text(json.dumps([os.getpid(), *sys.argv[1:]]))
fast, slow = Path(folder / "fast").read_text(), Path(folder / "slow").read_text()
while True:
    print(slow if (folder / "drop").exists() else fast, flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH whose tegrastats says an AGX Orin's line, and once `drop` is there, the same with the clock
    at 612 MHz.
    """
    program(tmp_path / UTILITY, SCRIPT.format(python=sys.executable, folder=str(tmp_path)))
    (tmp_path / "fast").write_text(AGX_ORIN_JP7)
    (tmp_path / "slow").write_text(AGX_ORIN_JP7.replace("[1300,1300]", "[612,612]"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def first_reading(source: Tegrastats) -> dict[str, float]:
    return until(lambda: source.read() or ({"absent": math.nan} if source.absent else None))


def rows_with(observer: Observer, clock: str) -> int:
    return sum(f",{clock}," in row for row in observed(observer).splitlines() if ",offline," in row)


@pytest.mark.slow
def test_a_clock_that_drops_under_load_is_flagged_and_the_utility_ends_with_the_load(board: Path) -> None:
    with Observer("Orin") as observer:
        observer.phase("int8", "warm-up", 1.0)
        until(lambda: ",1300.0," in observed(observer))  # tegrastats has started
        observer.phase("int8", "offline", 6.0)
        until(lambda: rows_with(observer, "1300.0") >= 3)
        (board / "drop").touch()
        until(lambda: rows_with(observer, "612.0") >= 2)
        observer.close()
        table = observer.table()
    pid, *arguments = json.loads((board / "started.json").read_text())
    assert arguments == ["--interval", "1000"]
    assert not psutil.pid_exists(pid)
    assert observer.absent == ""
    assert observer.device_state["telemetry"] == UTILITY
    assert table["throttle_reasons"].isna().all()  # tegrastats gives none: missing, not "no reason"
    load = table[table["phase"] == "offline"]
    fast, slow = (load[load["sm_clock_mhz"] == clock] for clock in (1300, 612))
    load = pd.concat([fast, slow.head(2)])  # on a busy machine there may be more, and seconds without a line
    load = load.assign(seconds=(load["clock_ns"] - load["clock_ns"].iloc[0]) / 1e9)
    found = conditions(load, images=100)
    dropped = load["seconds"][load["sm_clock_mhz"] == 612]
    assert found["throttled"] == f"sm clock under 90% of 1300 MHz {dropped.iloc[0]:.0f}-{dropped.iloc[-1]:.0f} s"
    assert found["power_w_mean"] == pytest.approx(13.907)
    assert found["energy_j_per_image"] == pytest.approx(13.907 * load["seconds"].iloc[-1] / 100, rel=1e-3)
    assert f"process {pid}" not in found["other_processes"]  # the observer's own child disturbs, but is no stranger


def test_where_nvml_serves_the_gpu_tegrastats_is_not_started(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(clock=1980.0))
    telemetry = Telemetry(os.getpid(), "Orin")
    assert float(telemetry.read()["sm_clock_mhz"]) == 1980
    telemetry.close()
    assert not (board / "started.json").exists()


def test_an_nvml_that_knows_the_gpu_and_no_reading_gives_way(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(clock=None))
    telemetry = Telemetry(os.getpid(), "Orin")
    row = until(lambda: None if math.isnan(float((row := telemetry.read())["sm_clock_mhz"])) else row)
    telemetry.close()
    assert (row["sm_clock_mhz"], row["gpu_memory_mib"]) == (1300, 20642)
    assert set(GPU_COLUMNS) < set(row)


def nvml(clock: object) -> types.ModuleType:
    """An NVML with one GPU called Orin that tells its clock, or nothing."""

    class NVMLError(Exception):
        pass

    def unsupported(*_: object) -> object:
        raise NVMLError("Not Supported")

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return answers.get(name, unsupported) if name.startswith("nvml") else name

    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": str,
        "nvmlDeviceGetName": lambda _: b"Orin",
    }
    if clock is not None:
        answers["nvmlDeviceGetClockInfo"] = lambda *_: clock
    module = Module("pynvml")
    module.NVMLError = NVMLError  # type: ignore[attr-defined]
    return module


def test_an_ordinary_user_gets_the_clock_from_devfreq(board: Path, tmp_path: Path) -> None:
    (board / "fast").write_text(AGX_ORIN_USER)
    for device, hertz in (("17000000.ga10b", "1300500000\n"), ("15340000.vic", "115200000\n")):
        (tmp_path / "devfreq" / device).mkdir(parents=True)
        (tmp_path / "devfreq" / device / "cur_freq").write_text(hertz)
    for folder, clock in ((tmp_path / "devfreq", 1300.5), (tmp_path / "nothing", None)):
        source = Tegrastats(str(installed()), folder)
        found = first_reading(source)
        source.close()
        assert found.get("sm_clock_mhz") == clock
        assert found["gpu_utilization_percent"] == 32


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "#!/bin/sh\necho 'needs root' >&2\nexit 3\n",
            "no GPU telemetry: tegrastats ended with 3 and said: needs root",
            id="it ends",
        ),
        pytest.param("#!/nowhere/sh\n", "cannot be started (No such file or directory)", id="it cannot start"),
    ],
)
def test_a_utility_that_does_not_run_is_said(board: Path, text: str, sentence: str) -> None:
    program(board / UTILITY, text)
    with Observer("Orin") as observer:
        observer.phase("fp32", "offline", 1.2)
        until(
            lambda: (
                observed(observer).count("\n") >= 2
                and not any(child.name() == UTILITY for child in running_below(observer))
            )
        )
        observer.close()
        table = observer.table()
    assert sentence in observer.absent
    assert len(table) > 0
    assert pd.Series(table.get("sm_clock_mhz", [math.nan])).isna().all()


def running_below(observer: Observer) -> list[psutil.Process]:
    """Children of the observing process that have not ended."""
    children = psutil.Process(observer._process.pid).children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_a_line_that_is_old_says_nothing_of_now(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(board / UTILITY, f"#!/bin/sh\necho '{NANO}'\nexec sleep {HANG_SECONDS}\n")
    clock = {"now": 100.0}
    monkeypatch.setattr(tegrastats, "time", types.SimpleNamespace(monotonic=lambda: clock["now"]))
    source = Tegrastats(str(installed()))
    assert first_reading(source)["sm_clock_mhz"] == 921
    clock["now"] += tegrastats.STALE_SECONDS
    assert source.read()["sm_clock_mhz"] == 921
    clock["now"] += 0.1
    assert source.read() == {}
    source.close()


def test_a_utility_that_ends_under_way_is_said(board: Path) -> None:
    program(board / UTILITY, f"#!/bin/sh\necho '{NANO}'\nexit 1\n")
    source = Tegrastats(str(installed()))
    assert until(lambda: source.absent) == "no GPU telemetry: tegrastats ended with 1"
    assert source.read()["power_w"] == 1.388  # what it said before counts
    source.close()


def test_the_power_mode_is_told_by_nvpmodel(board: Path) -> None:
    program(
        board / "nvpmodel", "#!/bin/sh\necho 'NVPM WARN: fan mode is not set!'\necho 'NV Power Mode: MAXN'\necho 0\n"
    )
    source = Tegrastats(str(installed()))
    assert source.state() == {"telemetry": UTILITY, "power_mode": "MAXN"}
    (board / "nvpmodel").unlink()
    assert "power_mode" not in source.state()
    source.close()
