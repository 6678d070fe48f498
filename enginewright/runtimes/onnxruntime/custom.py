"""Kernels of custom operators for a session: compiled libraries, and Python functions under `onnx_op`."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from enginewright.errors import ModelError, RuntimeUnavailable
from enginewright.plugins import ONNXRUNTIME, PYTHON, Plugin, Plugins

if TYPE_CHECKING:
    import onnxruntime

INSTALL = "pip install 'enginewright[plugins]'"
INSTALLED = ("site-packages", "dist-packages")
_run: set[str] = set()  # sha256 of Python files: what one registers stays registered as long as the process


def register(options: onnxruntime.SessionOptions, plugins: Plugins) -> None:
    """Give a session the kernels of `plugins`, each file verified before it is loaded.

    Raises:
        StaleArtifact: a file is missing or was changed.
        RuntimeUnavailable: a library does not load on this machine, or onnxruntime-extensions is not installed.
        ModelError: a Python file raises, or imports what is neither installed nor declared.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    for plugin in plugins.of(ONNXRUNTIME).files:
        path = plugin.verified()
        try:
            options.register_custom_ops_library(os.path.abspath(path))
        except (Fail, InvalidArgument, RuntimeException) as fault:
            raise RuntimeUnavailable(
                f"ONNX Runtime cannot load {path}: {' '.join(str(fault).split())}; compile it for this machine, or"
                " bring a Python twin in its place with model.plugins.python"
            ) from None
    twins = plugins.of(PYTHON).files
    if twins:
        _extend(options, twins)


def _extend(options: onnxruntime.SessionOptions, twins: Iterable[Plugin]) -> None:
    try:
        import onnxruntime_extensions
    except ImportError as fault:
        raise RuntimeUnavailable(
            f"model.plugins.python needs onnxruntime-extensions, which cannot be imported ({fault}); {INSTALL}"
        ) from None
    for twin in twins:
        path = twin.verified()
        if twin.sha256 not in _run:
            _execute(path, f"enginewright_plugin_{twin.sha256[:16]}")
            _run.add(twin.sha256)
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())


def _execute(path: Path, name: str) -> None:
    """Run a Python file as a module of its own. Raises ModelError."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None  # the suffix is .py
    module, writes, before = importlib.util.module_from_spec(spec), sys.dont_write_bytecode, set(sys.modules)
    sys.dont_write_bytecode = True  # a __pycache__ beside a model would be a change of what DVC restores
    try:
        spec.loader.exec_module(module)
    except Exception as fault:  # the user's own code may raise anything
        frames = [each.lineno for each in traceback.extract_tb(fault.__traceback__) if each.filename == str(path)]
        line = frames[-1] if frames else getattr(fault, "lineno", 1)
        raise ModelError(
            f"{path.name}, a file of model.plugins.python, raises {type(fault).__name__} in line {line}:"
            f" {' '.join(str(fault).split())}; mend it"
        ) from fault
    finally:
        sys.dont_write_bytecode = writes
    for other in sorted(set(sys.modules) - before):
        file = getattr(sys.modules[other], "__file__", None)
        if isinstance(file, str) and not _is_installed(Path(file).resolve()):
            raise ModelError(
                f"{path.name}, a file of model.plugins.python, imports {other} ({file}), which DVC does not see and the"
                " engine does not carry; put what it needs into the one file"
            )


def _is_installed(path: Path) -> bool:
    """Whether a module is of Python's own library or of an installed package, which have versions."""
    standard = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    return bool(set(INSTALLED) & set(path.parts)) or any(Path(folder).resolve() in path.parents for folder in standard)
