"""A model tried at `configure`, in seconds: what `export` would refuse after the data was prepared."""

from __future__ import annotations

from enginewright.config import Params, ranges
from enginewright.importers import DryRun, importer_named
from enginewright.layout import Layout


def dry_run(params: Params, paths: Layout) -> str:
    """Read or run the model as far as its importer can, and hold its outputs to the task.

    Returns:
        What was left out and why, or nothing.

    Raises:
        ModelError: what `export` would refuse.
    """
    model, importer = params.model, importer_named(params.model.source)
    if not isinstance(importer, DryRun):
        return ""
    tried = importer.dry_run(model, paths, ranges(params.axes))
    if tried.interface is not None:
        from enginewright.tasks import judged, task_of

        task_of(model).check(judged(model, tried.interface), f"{model.name} ({model.written_in})")
    return tried.note
