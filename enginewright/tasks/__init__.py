"""What engines are judged on: one module for each task, found by the name that `model.task` has."""

from __future__ import annotations

from typing import cast

from enginewright.config import Model
from enginewright.errors import ConfigError, nearest
from enginewright.interface import Interface
from enginewright.registry import TASKS
from enginewright.tasks.base import Task


def get_task(name: str) -> Task:
    """Return the task of this name. Raises ConfigError if there is none."""
    return cast(Task, TASKS.get(name))


def judged(model: Model, interface: Interface) -> Interface:
    """An interface with the outputs that the model's task judges: all of them, or one.

    Raises:
        ConfigError: it judges one, and model.judged names none of several, or one that is not there.
    """
    names = [spec.name for spec in interface.outputs]
    if get_task(model.task).every_output:
        return interface
    if model.judged is None and len(names) != 1:
        raise ConfigError(
            f"model.judged: the task {model.task} judges one output, and the model has {len(names)}; set it to one of"
            f" {', '.join(names)}, or set model.task=outputs, which judges them all"
        )
    name = names[0] if model.judged is None else model.judged
    if name not in names:
        raise ConfigError(f"model.judged: the model has no output '{name}'{nearest(name, names)}")
    return Interface(interface.inputs, (interface.output(name),))
