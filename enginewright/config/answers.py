"""What the output of a model must look like for each task, as far as its shape tells."""

from __future__ import annotations

from collections.abc import Sequence

from enginewright.config.choices import TaskName

EXPECTED = {
    TaskName.classification: "[N, classes], two classes at least",
    TaskName.segmentation: "[N, classes, H, W], two classes at least",
    TaskName.outputs: "[N, ...]",
}
AXES = {TaskName.classification: 2, TaskName.segmentation: 4}


def accepts(task: TaskName, shape: Sequence[int]) -> bool:
    """Whether an output of this shape is what the task judges: the largest of one class is always the same one, so that
    it would always agree.
    """
    return len(shape) >= 1 if task is TaskName.outputs else len(shape) == AXES[task] and shape[1] > 1


def remedy(task: TaskName) -> str:
    """What to do about an output that is not what the task expects."""
    return (
        f"and model.task {task.name} judges {EXPECTED[task]}; set model.task to what the model does (outputs, where it"
        " answers neither classes nor pixels), or model.output_name to the right output"
    )
