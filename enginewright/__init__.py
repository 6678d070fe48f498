"""Enginewright: the reproducible road from a PyTorch model to calibrated TensorRT engines.

What an application needs is exported here, and imported on first use: `import enginewright` loads no other package.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from enginewright._version import __version__

if TYPE_CHECKING:
    from enginewright.application import LoadedEngine
    from enginewright.data.recipes import preprocess
    from enginewright.errors import (
        CalibrationMismatch,
        ConfigError,
        DataError,
        EngineInputError,
        EnginewrightError,
        GateFailed,
        ModelError,
        RuntimeUnavailable,
        StaleArtifact,
    )
    from enginewright.runtimes.base import Engine, LoadOptions

__all__ = [
    "CalibrationMismatch",
    "ConfigError",
    "DataError",
    "Engine",
    "EngineInputError",
    "EnginewrightError",
    "GateFailed",
    "LoadOptions",
    "LoadedEngine",
    "ModelError",
    "RuntimeUnavailable",
    "StaleArtifact",
    "__version__",
    "load",
    "preprocess",
]

_HOMES = {
    "Engine": "enginewright.runtimes.base",
    "LoadOptions": "enginewright.runtimes.base",
    "LoadedEngine": "enginewright.application",
    "preprocess": "enginewright.data.recipes",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'enginewright' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES.get(name, "enginewright.errors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(path: Union[str, Path], options: Optional[LoadOptions] = None) -> LoadedEngine:
    """Load an engine that the pipeline built, for use in an application::

        with enginewright.load("engine.onnx") as engine:
            outputs = engine.infer(engine.preprocess("photo.png"))

    Its sidecar says which runtime it is for; hash, versions and GPU are checked before anything is deserialized. The
    two files are enough: neither the current folder nor the project that the engine comes from matters.

    Args:
        path: an engine that a build stage sealed.
        options: how it is held in memory.

    Raises:
        StaleArtifact: the engine or its sidecar is missing, changed, or made for another machine.
        RuntimeUnavailable: the runtime cannot run here.
    """
    from enginewright import application

    return application.load(path, options)
