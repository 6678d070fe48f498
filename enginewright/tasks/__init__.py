"""The tasks that engines are judged on: one module each, found by the name that `model.task` has."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from enginewright.config import TaskName
from enginewright.tasks.base import AccuracyTask


def get_task(name: TaskName) -> AccuracyTask:
    """The task of this name: the module here that is called so, and what it calls TASK."""
    return cast(AccuracyTask, import_module(f"{__name__}.{name.value}").TASK)
