"""A model's interface as an engine that computes nothing."""

from __future__ import annotations

import json
from pathlib import Path

from enginewright._version import __version__
from enginewright.interface import Interface
from enginewright.runtimes.base import BuildJob, BuiltEngine


def build(model: Path, job: BuildJob) -> BuiltEngine:
    """Return names, dtypes and shapes of the model's inputs and outputs as JSON. Raises ModelError."""
    import onnx

    interface = Interface.from_onnx(onnx.load(model, load_external_data=False)).with_batch()
    settings = {
        "precision": job.precision.name,
        "axes": {name: axis.to_dict() for name, axis in job.axes.items()},
        "versions": {"enginewright": __version__},
    }
    return BuiltEngine((json.dumps(interface.to_dict(), indent=2) + "\n").encode(), settings=settings)
