"""A process of its own beside the load: it reads telemetry once a second and draws the progress.

In a thread of the measuring process either would hold the interpreter lock for milliseconds, and some query would pay
for it. It ends when its standard input does, so it cannot outlive the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from enginewright.benchmark.clock import now_ns
from enginewright.benchmark.telemetry import Telemetry

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress, TaskID

INTERVAL_SECONDS = 1.0


class Observer:
    """The measuring process's handle on the observing one."""

    def __init__(self, gpu: Optional[str]) -> None:
        """Start in a `with` block; `gpu` is the name of the GPU under load, or None on a CPU."""
        self._gpu = gpu
        self.absent = ""
        self.device_state: dict[str, str] = {}

    def __enter__(self) -> Observer:
        self._folder = tempfile.TemporaryDirectory(prefix="enginewright-")
        self._file = Path(self._folder.name) / "telemetry.csv"
        command = [sys.executable, "-m", "enginewright.benchmark.observer", str(os.getpid()), str(self._file)]
        command += ["--gpu", self._gpu] if self._gpu else []
        # A session of its own: Ctrl-C must reach the load, whose series this process then still keeps.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
        self._folder.cleanup()

    def phase(self, precision: str, phase: str, seconds: float) -> None:
        """Say what starts now and how long it should take."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{precision}\t{phase}\t{seconds}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the observation. Raises RuntimeError if the observer failed: its traceback is on stderr."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        code = self._process.wait()
        if code:
            raise RuntimeError(f"the telemetry process ended with {code}")

    def table(self) -> pd.DataFrame:
        """What was read until `close`: clock_ns, precision, phase and the columns of `Telemetry`; sets `absent` and
        `device_state`.
        """
        import pandas as pd

        note = self._file.with_suffix(".absent")
        self.absent = note.read_text() if note.exists() else ""
        state = self._file.with_suffix(".state")
        self.device_state = json.loads(state.read_text()) if state.exists() else {}
        return pd.read_csv(self._file)


def observe(pid: int, file: Path, gpu: Optional[str]) -> None:
    """Write a row each INTERVAL_SECONDS until standard input ends, and show how far the phase is."""
    with contextlib.closing(Telemetry(pid, gpu)) as telemetry:
        _record(telemetry, file)
        file.with_suffix(".absent").write_text(telemetry.absent)  # at the end: a source may give out under way


def _record(telemetry: Telemetry, file: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    file.with_suffix(".state").write_text(json.dumps(telemetry.device_state()))
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        disable=not console.is_terminal,
    )
    with file.open("w", newline="") as stream, bar:
        writer = csv.DictWriter(stream, ["clock_ns", "precision", "phase", *telemetry.columns])
        writer.writeheader()
        precision = phase = ""
        task, started, due, unread = None, time.monotonic(), time.monotonic(), ""
        while True:
            ready, _, _ = select.select([sys.stdin], [], [], max(due - time.monotonic(), 0.0))
            if ready:
                received = os.read(sys.stdin.fileno(), 1 << 16).decode()
                if not received:
                    break
                *lines, unread = (unread + received).split("\n")
                for line in lines:
                    precision, phase, seconds = line.split("\t")
                    task = _next_task(bar, task, f"{precision}: {phase}", float(seconds))
                started = due = time.monotonic()
            if phase:
                writer.writerow({"clock_ns": now_ns(), "precision": precision, "phase": phase, **telemetry.read()})
                stream.flush()
            if task is not None:
                bar.update(task, completed=time.monotonic() - started, refresh=True)
            due += INTERVAL_SECONDS
        if task is not None:
            bar.update(task, completed=bar.tasks[task].total, refresh=True)


def _next_task(bar: Progress, current: Optional[TaskID], label: str, seconds: float) -> TaskID:
    if current is not None:
        bar.update(current, completed=bar.tasks[current].total)
    if not bar.console.is_terminal:  # a log file gets a line for each phase in place of a bar
        bar.console.print(f"{label} ({seconds:g} s)", highlight=False)
    return bar.add_task(label, total=seconds)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="Telemetry of a running benchmark, read once a second")
    parser.add_argument("pid", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--gpu")
    arguments = parser.parse_args()
    observe(arguments.pid, arguments.file, arguments.gpu)


if __name__ == "__main__":
    main()
