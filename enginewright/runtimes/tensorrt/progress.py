"""Builds take minutes: show where they are, through IProgressMonitor where the library has it, else from the log."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.log import BuildLog

if TYPE_CHECKING:
    import tensorrt

AT_LAYER = re.compile(r"=+ Computing costs for (.+)")  # VERBOSE, once a layer, in 8.6 and later


@contextlib.contextmanager
def follow(trt: Bindings, config: tensorrt.IBuilderConfig, log: BuildLog, what: str) -> Iterator[None]:
    """Show the progress of a build on stderr while the block runs. Phases are the library's and differ by version."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        whole = progress.add_task(what, total=None)
        if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
            config.progress_monitor = _monitor(trt, progress)
            yield
            return
        layers = 0

        def listen(severity: str, text: str) -> None:
            nonlocal layers
            if severity == "VERBOSE" and (at := AT_LAYER.search(text)):
                layers += 1
                progress.update(whole, completed=layers, description=f"{what}: timing {at.group(1)[:60]}")

        log.listen = listen
        try:
            yield
        finally:
            log.listen = None


def _monitor(trt: Any, progress: Progress) -> tensorrt.IProgressMonitor:
    """A monitor that draws one bar a phase. TensorRT calls it from its own threads; rich locks for itself."""
    tasks: dict[str, TaskID] = {}

    class Monitor(trt.IProgressMonitor):  # the base is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            tasks[phase_name] = progress.add_task(f"  {phase_name}" if parent_phase else phase_name, total=num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in tasks:
                progress.update(tasks[phase_name], completed=step + 1)
            return True  # False cancels the build

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in tasks:  # it may come before all steps
                progress.remove_task(tasks.pop(phase_name))

    monitor: tensorrt.IProgressMonitor = Monitor()
    return monitor
