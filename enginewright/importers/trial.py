"""A model tried at `configure`, in seconds: what `export` would refuse after the data was prepared."""

from __future__ import annotations

from typing import Optional

from enginewright.config import Params, ranges
from enginewright.importers import DryRun, importer_named
from enginewright.interface import Interface
from enginewright.layout import Layout

ONNX = "onnx"  # of model.source


def dry_run(params: Params, paths: Layout) -> str:
    """Read or run the model as far as its importer can, and hold its outputs to the task.

    Returns:
        What was left out and why, and what the task takes the outputs for; or nothing.

    Raises:
        ModelError, ConfigError: what `export` would refuse.
    """
    model, importer = params.model, importer_named(params.model.source)
    interface, note = _of_file(params, paths), ""
    if isinstance(importer, DryRun):
        tried = importer.dry_run(model, paths, ranges(params.axes))
        interface, note = tried.interface, tried.note
    if interface is None:
        return note
    from enginewright.tasks import judged, task_of

    task, answers = task_of(model), judged(model, interface)
    if isinstance(importer, DryRun):
        task.check(answers, f"{model.name} ({model.written_in})")
    return "; ".join(filter(None, (note, task.takes_for(answers))))


def _of_file(params: Params, paths: Layout) -> Optional[Interface]:
    """What an ONNX file takes and gives; None of another model, or of a file that is not here yet."""
    from enginewright.importers.files import located
    from enginewright.importers.onnx import interface_of_file

    if params.model.source != ONNX or not paths.file(params.model.path).exists():
        return None
    return interface_of_file(located(params.model, paths), params.model, ranges(params.axes))
