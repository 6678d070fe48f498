"""Other processes on the device that is measured: those that compute on the GPU, and those that take CPU time beside
the load.
"""

from __future__ import annotations

import json
import time
from typing import Optional

import psutil

LEAST_CORES = 0.25  # of one core, over a second: below, a process disturbs no figure
Process = tuple[int, str, float, float]  # pid, name, cores busy, MiB of GPU memory (-1: on the GPU, memory unknown)


class Neighbours:
    """Looks at all processes but the measured one, its children, and the one that looks."""

    def __init__(self, pid: int) -> None:
        """`pid` is the measured process."""
        self._pid = pid
        self._before, self._when = self._cpu_seconds(), time.monotonic()

    def read(self, on_gpu: Optional[dict[int, float]] = None) -> str:
        """JSON list of [pid, name, cores busy since the last reading, GPU MiB] of every process that disturbs; empty if
        none does.
        """
        now, when = self._cpu_seconds(), time.monotonic()
        elapsed = max(when - self._when, 1e-3)
        ours = self._ours()
        busy = {
            pid: (seconds - self._before.get(pid, seconds)) / elapsed for pid, seconds in now.items() if pid not in ours
        }
        self._before, self._when = now, when
        gpu = {pid: mib for pid, mib in (on_gpu or {}).items() if pid not in ours}
        if (
            on_gpu and self._pid not in on_gpu
        ):  # in a container NVML gives the host's process numbers: one that is nobody's here is the measured one
            strangers = [pid for pid in gpu if not psutil.pid_exists(pid)]
            for pid in strangers[:1]:
                del gpu[pid]
        pids = sorted({pid for pid, cores in busy.items() if cores > LEAST_CORES} | set(gpu))
        found: list[Process] = [(pid, _name(pid), round(busy.get(pid, 0.0), 2), gpu.get(pid, 0.0)) for pid in pids]
        return json.dumps(found) if found else ""

    def _ours(self) -> set[int]:
        try:
            children = psutil.Process(self._pid).children(recursive=True)
        except psutil.Error:
            children = []
        return {self._pid, psutil.Process().pid, *(child.pid for child in children)}

    @staticmethod
    def _cpu_seconds() -> dict[int, float]:
        return {
            process.info["pid"]: sum(process.info["cpu_times"][:2])
            for process in psutil.process_iter(["pid", "cpu_times"])
            if process.info["cpu_times"]  # None where it may not be read
        }


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "a process of another user or container"
