"""What engines are judged on: one module for each task, found by the name that `model.task` has."""

from __future__ import annotations

from typing import cast

from enginewright.registry import TASKS
from enginewright.tasks.base import Task


def get_task(name: str) -> Task:
    """Return the task of this name. Raises ConfigError if there is none."""
    return cast(Task, TASKS.get(name))
