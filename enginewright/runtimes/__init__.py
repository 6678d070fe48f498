"""The registry of backends: a name is a module here, imported on first use, that defines RUNTIME."""

from __future__ import annotations

import importlib
from typing import cast

from enginewright.config import RuntimeName
from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.base import Runtime, Task

AUTO_ORDER = (
    RuntimeName.tensorrt,
    RuntimeName.tensorrt_rtx,
    RuntimeName.onnxruntime,
)  # what `auto` tries; `null` is reached by name only


def runtime_named(name: RuntimeName) -> Runtime:
    """Return the backend `name` without asking what it can do here."""
    return cast(Runtime, importlib.import_module(f"enginewright.runtimes.{name.value}").RUNTIME)


def get_runtime(name: RuntimeName, *tasks: Task) -> Runtime:
    """Return the runtime `name`, or for `auto` the first that can do all `tasks` here.

    Raises:
        RuntimeUnavailable: with each backend's reason.
    """
    reasons = []
    for candidate in AUTO_ORDER if name is RuntimeName.auto else (name,):
        runtime = runtime_named(candidate)
        reason = next((why for task in tasks if (why := runtime.why_not(task))), None)
        if reason is None:
            return runtime
        reasons.append(f"{candidate.value}: {reason}")
    raise RuntimeUnavailable(f"nothing here can {' and '.join(task.value for task in tasks)} ({'; '.join(reasons)})")
