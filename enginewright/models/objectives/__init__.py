"""What train_reference minimizes and measures for each task. The engines are judged elsewhere
(`enginewright.tasks`), without torch.
"""

from __future__ import annotations

from enginewright.errors import ModelError
from enginewright.models.objectives.base import Evaluation, Objective
from enginewright.models.objectives.boxes import DETECTION
from enginewright.models.objectives.classes import CLASSIFICATION, SEGMENTATION

__all__ = ["OBJECTIVES", "Evaluation", "Objective", "objective_of"]

OBJECTIVES = {"classification": CLASSIFICATION, "segmentation": SEGMENTATION, "detection": DETECTION}


def objective_of(task: str) -> Objective:
    """Raises ModelError for a task that train_reference cannot train."""
    if task not in OBJECTIVES:
        raise ModelError(
            f"train_reference has no objective for model.task {task}; add one to {__name__}, or bring weights"
            " (model.weights_from file)"
        )
    return OBJECTIVES[task]
