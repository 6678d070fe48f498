"""Readings of the machine beside the load: CPU frequency and memory through psutil, the GPU through NVML or, on a
Jetson, tegrastats. The owner of pynvml.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

import psutil

from enginewright.benchmark import tegrastats
from enginewright.benchmark.neighbours import Neighbours

MIB = 1 << 20
NAN = math.nan

CPU_COLUMNS = ("cpu_frequency_mhz", "cpu_utilization_percent", "process_cpu_percent", "cpu_temperature_c", "rss_mib")
GPU_COLUMNS = (
    "sm_clock_mhz",
    "memory_clock_mhz",
    "gpu_temperature_c",
    "power_w",
    "gpu_utilization_percent",
    "gpu_memory_mib",
    "throttle_reasons",
)

# NVML API Reference, nvmlClocksEventReasons: bit -> what holds the clocks down. Idle (bit 0) and application clocks
# (bit 1) are no throttling.
THROTTLE_REASONS = {
    1 << 2: "software power cap",
    1 << 3: "hardware slowdown",
    1 << 5: "software thermal slowdown",
    1 << 6: "hardware thermal slowdown",
    1 << 7: "hardware power brake",
}


def rss_mib(pid: Optional[int] = None) -> float:
    """Resident memory of a process, by default this one, in MiB."""
    return float(psutil.Process(pid).memory_info().rss) / MIB


def throttle_names(reasons: int) -> list[str]:
    """The reasons in a bit mask that mean throttling."""
    return [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]


class Telemetry:
    """Reads one row at a time; what cannot be read is NaN."""

    def __init__(self, pid: int, gpu: Optional[str]) -> None:
        """Watch the process `pid`, and the first GPU whose name is `gpu` (None: no GPU is used)."""
        self._process = psutil.Process(pid)
        self._process.cpu_percent()  # the first answer is 0 by definition (psutil documentation)
        psutil.cpu_percent()
        self._gpu = None if gpu is None else _open(gpu)
        self._neighbours = Neighbours(pid)
        self.columns = (
            CPU_COLUMNS + (GPU_COLUMNS if self._gpu and not self._gpu.absent else ()) + ("other_processes",)
        )  # of `read`, with units

    @property
    def absent(self) -> str:
        """Why the GPU that is used cannot be watched, or empty; a source that gives out meanwhile is named too."""
        return self._gpu.absent if self._gpu else ""

    def close(self) -> None:
        """End what was started for it."""
        if isinstance(self._gpu, tegrastats.Tegrastats):
            self._gpu.close()

    def device_state(self) -> dict[str, str]:
        """Settings of the GPU that figures depend on, by NVML or nvpmodel; empty without a GPU."""
        return self._gpu.state() if self._gpu and not self._gpu.absent else {}

    def read(self) -> dict[str, Union[float, str]]:
        """One reading of everything, by column."""
        frequency = psutil.cpu_freq()
        temperatures = [reading.current for readings in psutil.sensors_temperatures().values() for reading in readings]
        row: dict[str, Union[float, str]] = {
            "cpu_frequency_mhz": frequency.current if frequency else NAN,
            "cpu_utilization_percent": psutil.cpu_percent(),
            "process_cpu_percent": self._process.cpu_percent(),
            "cpu_temperature_c": max(temperatures, default=NAN),
            "rss_mib": self._process.memory_info().rss / MIB,
        }
        gpu = self._gpu if "power_w" in self.columns else None
        row.update({**dict.fromkeys(GPU_COLUMNS, NAN), **gpu.read()} if gpu else {})
        return {**row, "other_processes": self._neighbours.read(gpu.processes() if gpu else None)}


def _open(name: str) -> Union[_Gpu, tegrastats.Tegrastats]:
    """NVML where it serves the GPU. JetPack 6 has an NVML that knows the GPU's name and no reading of it, older ones
    have none.
    """
    nvml = _Gpu(name)
    path = tegrastats.installed()
    return tegrastats.Tegrastats(path) if path and (nvml.absent or nvml.mute()) else nvml


class _Gpu:
    def __init__(self, name: str) -> None:
        self.absent = ""
        try:
            import pynvml
        except ImportError:
            self.absent = "no GPU telemetry: nvidia-ml-py is not installed (pip install nvidia-ml-py)"
            return
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            self._handle = next((handle for handle in handles if _text(pynvml.nvmlDeviceGetName(handle)) == name), None)
        except pynvml.NVMLError as fault:
            self.absent = f"no GPU telemetry: NVML says {fault}"
            return
        if self._handle is None:
            self.absent = f"no GPU telemetry: NVML knows no {name}"

    def read(self) -> dict[str, float]:
        nvml, handle = self._nvml, self._handle
        # renamed in driver 535
        reasons = (
            getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
            or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        )
        sources: Mapping[str, Callable[[], float]] = {
            "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "gpu_temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "gpu_utilization_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_memory_mib": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / MIB,
            "throttle_reasons": lambda: reasons(handle),
        }
        return {column: self._or_nan(source) for column, source in sources.items()}

    def mute(self) -> bool:
        """Whether none of clock, temperature and power can be read."""
        reading = self.read()
        return all(math.isnan(reading[column]) for column in ("sm_clock_mhz", "gpu_temperature_c", "power_w"))

    def processes(self) -> dict[int, float]:
        """MiB of GPU memory by process; -1 where NVML does not say, as inside of a container."""
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return {}
        return {int(process.pid): process.usedGpuMemory / MIB if process.usedGpuMemory else -1.0 for process in running}

    def state(self) -> dict[str, str]:
        """Power limit, persistence and MIG mode, ECC, and the clocks' bounds; what this GPU does not know is absent."""
        nvml, handle = self._nvml, self._handle
        on_off = {0: "off", 1: "on"}
        sources: Mapping[str, Callable[[], str]] = {
            "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
            "power_limit_w": lambda: f"{nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3:g}",
            "persistence_mode": lambda: on_off[nvml.nvmlDeviceGetPersistenceMode(handle)],
            "mig_mode": lambda: on_off[nvml.nvmlDeviceGetMigMode(handle)[0]],
            "ecc_mode": lambda: on_off[nvml.nvmlDeviceGetEccMode(handle)[0]],
            "sm_clock_mhz_maximum": lambda: str(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "sm_clock_mhz_application": lambda: str(nvml.nvmlDeviceGetApplicationsClock(handle, nvml.NVML_CLOCK_SM)),
        }
        found = {}
        for name, source in sources.items():
            with contextlib.suppress(nvml.NVMLError, AttributeError, KeyError):
                found[name] = source()
        return found

    def _or_nan(self, source: Callable[[], float]) -> float:
        try:
            return float(source())
        except self._nvml.NVMLError:  # not every board has every sensor
            return NAN


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)  # bytes before nvidia-ml-py 11.5
