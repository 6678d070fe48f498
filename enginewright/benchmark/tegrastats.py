"""Telemetry of a Jetson, whose GPU NVML does not serve: `tegrastats`, which ships with Jetson Linux, run beside the
load and read line by line.

Fields and their forms: "Tegrastats Utility" in NVIDIA's Jetson Linux Developer Guide (r32 to r39), and lines recorded
on Nano, TX2, Xavier, Orin and Thor (tests/benchmark/test_tegrastats.py). What differs between releases:

- GR3D_FREQ is `45%@921` on Nano and Xavier, `45%@[1300,1300]` (a clock for each GPC) on Orin since JetPack 6,
  `@[314,314,314]` on Thor, and `45%` alone where the clock may not be read; then the kernel's devfreq has it. A gated
  GPC has the clock 0, which is no clock.
- A rail is `VDD_IN 4067/4067` (now / mean, milliwatts) in JetPack 4, `VDD_IN 5251mW/8535mW` in 5 and 6, `.../max`
  besides in 7.
- Sensors are `GPU@43C` until JetPack 5 and `gpu@47.625C` since; one that is switched off says -256.

What a line does not say is missing from the answer, never 0.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Optional

UTILITY = "tegrastats"
INTERVAL_MS = 1000
STALE_SECONDS = 3.0  # older than three intervals: the utility hangs, and its last line says nothing of now
COLDEST_C = -50.0
DEVFREQ = Path("/sys/class/devfreq")
GPU_DEVICES = (".gpu", ".gp10b", ".gv11b", ".ga10b")  # in DEVFREQ: Nano and Orin since JetPack 6, TX2, Xavier, Orin

RAM = re.compile(r"\bRAM (\d+)/\d+MB")
GPU = re.compile(r"\bGR3D(?:_FREQ)?\s+(?:(\d+)%)?(?:@(\[[^\]]*\]|\d+))?")
MEMORY = re.compile(r"\bEMC(?:_FREQ)?\s+(?:\d+%)?@(\d+)")
TEMPERATURE = re.compile(r"\bGPU@(-?\d+(?:\.\d+)?)C", re.IGNORECASE)
RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+")

# The rails that make up the module's power, the first set that is there whole. VDD_IN, POM_5V_IN and VIN feed all the
# others, which must not be added to them. AGX Orin and AGX Xavier have no such rail: theirs are fed side by side
# (VDDQ_VDD2_1V8AO of Orin from VIN_SYS_5V0, so it is left out). Sources: the tables of power monitor channels in the
# Developer Guide, "Platform Power and Performance"; Jetson AGX Xavier Product Design Guide, 5.2 and 5.6.2; the same
# choice in energymon's energymon-jetson.c. The carrier board is in none of them.
MODULE_RAILS = (
    ("VDD_IN",),  # TX1, TX2, Xavier NX, Orin NX, Orin Nano
    ("POM_5V_IN",),  # Nano
    ("VIN",),  # Thor
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


def parse(line: str) -> dict[str, float]:
    """What one line of tegrastats says, in the columns of NVML's telemetry.

    Returns:
        Of sm_clock_mhz (the fastest GPC), memory_clock_mhz (EMC), gpu_temperature_c, power_w (of the module),
        gpu_utilization_percent and
        gpu_memory_mib (all memory in use: CPU and GPU share it) those that the line states.
    """
    found: dict[str, float] = {}
    if memory := RAM.search(line):
        found["gpu_memory_mib"] = float(memory[1])
    if gpu := GPU.search(line):
        if gpu[1]:
            found["gpu_utilization_percent"] = float(gpu[1])
        if (clock := max(map(float, re.findall(r"\d+", gpu[2] or "")), default=0.0)) > 0:
            found["sm_clock_mhz"] = clock
    if (emc := MEMORY.search(line)) and float(emc[1]) > 0:
        found["memory_clock_mhz"] = float(emc[1])
    if (temperature := TEMPERATURE.search(line)) and float(temperature[1]) > COLDEST_C:
        found["gpu_temperature_c"] = float(temperature[1])
    rails = {name: float(milliwatts) for name, milliwatts in RAIL.findall(line)}
    whole = next((names for names in MODULE_RAILS if all(name in rails for name in names)), ())
    if whole:
        found["power_w"] = sum(rails[name] for name in whole) / 1e3
    return found


class Tegrastats:
    """A running tegrastats; the same face as NVML's reader in `enginewright.benchmark.telemetry`."""

    def __init__(self, path: str, devfreq: Path = DEVFREQ) -> None:
        """Start it; `path` as `installed` gives it. `devfreq` is the kernel's folder of scaled clocks."""
        self._devfreq = devfreq
        self._unread, self._said = b"", ""
        self._found: dict[str, float] = {}
        self._when = -float("inf")
        self._fault, self._closed = "", False
        self._process: Optional[subprocess.Popen[bytes]] = None
        try:
            self._process = subprocess.Popen(
                [path, "--interval", str(INTERVAL_MS)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as fault:
            self._fault = f"no GPU telemetry: {path} cannot be started ({fault.strerror})"
            return
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def absent(self) -> str:
        """Why nothing can be read, or no more, or empty."""
        code = self._process.poll() if self._process and not self._closed else None
        if not self._fault and code is not None:
            self._take()
            self._fault = f"no GPU telemetry: {UTILITY} ended with {code}" + (
                f" and said: {self._said}" if self._said else ""
            )
        return self._fault

    def read(self) -> dict[str, float]:
        """The newest line, parsed; empty if there has been none for STALE_SECONDS."""
        self._take()
        if time.monotonic() - self._when > STALE_SECONDS:
            return {}
        return {**self._scaled_clock(), **self._found}

    def processes(self) -> dict[int, float]:
        """Nothing: tegrastats does not say who uses the GPU."""
        return {}

    def state(self) -> dict[str, str]:
        """The power mode, on which clocks and power depend, where nvpmodel tells it."""
        try:
            answer = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            answer = ""
        mode = re.search(r"NV Power Mode:\s*(\S+)", answer)
        return {"telemetry": UTILITY, **({"power_mode": mode[1]} if mode else {})}

    def close(self) -> None:
        """End it, and wait until it is gone."""
        if self._process is None or self._closed:
            return
        if not self.absent:  # else it has ended by itself, and the reason is kept
            self._process.terminate()
            try:
                self._process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._closed = True
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _take(self) -> None:
        """Read what it has written since, and keep the last line that says something."""
        if self._process is None or self._process.stdout is None or self._closed:
            return
        written = b""
        try:
            while block := os.read(self._process.stdout.fileno(), 1 << 16):
                written += block
        except BlockingIOError:  # it has written no more yet
            pass
        *lines, self._unread = (self._unread + written).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if found := parse(text):
                self._found, self._when = found, time.monotonic()
            elif text:
                self._said = text

    def _scaled_clock(self) -> dict[str, float]:
        """The GPU's clock by devfreq, for an ordinary user whom tegrastats does not tell it."""
        if "sm_clock_mhz" in self._found or not self._devfreq.is_dir():
            return {}
        for device in sorted(self._devfreq.iterdir()):
            if device.name.endswith(GPU_DEVICES):
                try:
                    hertz = int((device / "cur_freq").read_text())
                except (OSError, ValueError):
                    continue
                return {"sm_clock_mhz": hertz / 1e6} if hertz > 0 else {}
        return {}


def installed() -> Optional[str]:
    """Where the utility is on the PATH, or None."""
    return shutil.which(UTILITY)
