"""What engines are judged on: one module for each task, found by the name that `model.task` has."""

from __future__ import annotations

from typing import cast

from enginewright.config import Model
from enginewright.interface import Interface
from enginewright.registry import TASKS
from enginewright.tasks.base import Task


def get_task(name: str) -> Task:
    """Return the task of this name, with the defaults of its settings. Raises ConfigError if there is none."""
    return cast(Task, TASKS.get(name))


def task_of(model: Model) -> Task:
    """Return the task of a model, with its settings. Raises ConfigError if there is none of this name."""
    return get_task(model.task).configured(model)


def judged(model: Model, interface: Interface) -> Interface:
    """An interface with the outputs that the model's task judges, in the order in which it wants them.

    Raises:
        ConfigError: see `Task.choose`.
    """
    names = task_of(model).choose(interface, model.judged)
    return Interface(interface.inputs, tuple(map(interface.output, names)))
