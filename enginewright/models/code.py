"""What model code loads while it runs: a module or a file of the project that DVC does not hash is refused by its name.

`model.code` is one file and the only one of the user's that DVC tracks for the model. Whatever else it loads could change without a rerun, and the
old ONNX and engines would stay "up to date" (github.com/treeverse/dvc/issues/9195). Python's own library, installed packages and enginewright.models
are fine: the first two have versions, the last is among the deps of the stages.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from enginewright import artifacts
from enginewright.config import Model
from enginewright.errors import ModelError

PACKAGE = Path(__file__).resolve().parents[1]
# What every stage that runs model code has among its deps, or what decides no bytes (dvc.yaml).
OURS = ("models", "config", "manifest", "target", "errors", "artifacts", "stage")
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so")
INSTALLED = ("site-packages", "dist-packages")


@dataclass
class _Recording:
    read: list[str] = field(default_factory=list)  # in order, as given
    written: set[str] = field(default_factory=set)


_recording: Optional[_Recording] = None  # an audit hook cannot be taken away, so it asks this
_hooked = False
_inside: dict[Path, set[str]] = {}  # the project -> modules that its model code loaded, also in an earlier block of this process


@contextlib.contextmanager
def watching(model: Model, stage_reads: bool = False) -> Iterator[None]:
    """Run model code in this block; at its end, look at what was imported and read.

    Args:
        model: its `code` and `weights` may be read.
        stage_reads: code of ours runs in the block too, and may import modules of ours and read artifacts.

    Raises:
        ModelError: naming the first module or file that DVC does not see.
    """
    global _recording, _hooked  # noqa: PLW0603  an audit hook is global itself
    root = Path.cwd()
    entered = frozenset(sys.modules)
    if not _hooked:
        sys.addaudithook(_note)
        _hooked = True
    outer, _recording = _recording, _Recording()
    try:
        yield
        recorded = _recording
    finally:
        _recording = outer
        _inside.setdefault(root, set()).update(sys.modules.keys() - entered)
    _require_known_modules(model, root)
    if not stage_reads:
        _require_known_modules_of_ours(model, entered)
    _require_known_files(model, root, recorded, stage_reads)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _recording is None or event != "open" or not isinstance(arguments[0], (str, bytes)):
        return
    path, mode, flags = os.fsdecode(arguments[0]), arguments[1], arguments[2]
    writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))
    if writes:
        _recording.written.add(os.path.abspath(path))
    else:
        _recording.read.append(os.path.abspath(path))


def is_installed(path: Path) -> bool:
    """Whether a file is of Python itself or of an installed package, which have versions; an editable install is a folder of the user's."""
    return bool(set(INSTALLED) & set(path.parts)) or any(folder in path.parents for folder in _folders_of_packages())


@lru_cache(maxsize=1)
def _folders_of_packages() -> tuple[Path, ...]:
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [*named, *site.getsitepackages(), site.getusersitepackages(), os.path.dirname(os.__file__)]
    return tuple(Path(folder).resolve() for folder in folders if folder)


def is_standard(path: Path) -> bool:
    """Whether a file is of Python's own library."""
    return not set(INSTALLED) & set(path.parts) and Path(os.__file__).resolve().parent in path.parents


def is_ours(path: Path) -> bool:
    """Whether a file is of this package."""
    return PACKAGE in path.parents


def shown(path: Path, root: Optional[Path] = None) -> str:
    """Relative to the project where it lies in it."""
    root = (root or Path.cwd()).resolve()
    return path.relative_to(root).as_posix() if root in path.parents else str(path)


def _file_of(module: ModuleType) -> Optional[Path]:
    spec = getattr(module, "__spec__", None)
    named = getattr(module, "__file__", None) or (spec.origin if spec and spec.has_location else None)
    return Path(named).resolve() if isinstance(named, str) and os.path.isabs(named) else None  # torch.classes says that it is "_classes.py"


def _files_of_others(root: Path) -> set[Optional[Path]]:
    return {_file_of(module) for name, module in list(sys.modules.items()) if name not in _inside[root]}


def _require_known_modules_of_ours(model: Model, entered: frozenset[str]) -> None:
    for name in sorted(sys.modules.keys() - entered):
        package, _, rest = name.partition(".")
        if package == PACKAGE.name and rest and rest.partition(".")[0] not in OURS:
            raise ModelError(f"{model.code} imports {name}, which no stage of the model depends on; copy what it needs into {model.code}")


def _require_known_modules(model: Model, root: Path) -> None:
    code = Path(model.code).resolve()
    for name in sorted(_inside[root] & sys.modules.keys()):
        file = _file_of(sys.modules[name])
        if file is None or file == code or is_installed(file) or is_ours(file):
            continue
        if file in _files_of_others(root):  # the stage's own script under a second name
            continue
        remedy = "move it into that file, or install it as a package (not editable)"
        if file.name == "__init__.py":
            remedy = "remove it, as Python imports a folder without it, or move what it holds into that file"
        raise ModelError(_sentence(model, "imports", shown(file, root), remedy))


def _require_known_files(model: Model, root: Path, recorded: _Recording, stage_reads: bool) -> None:
    known = {Path(model.code).resolve(), Path(model.weights).resolve()}
    allowed = [PACKAGE, Path(tempfile.gettempdir()).resolve(), *([(root / artifacts.ROOT).resolve()] if stage_reads else [])]
    for name in recorded.read:
        path = Path(name)
        real = path.resolve()
        users = root in path.parents or root.resolve() in real.parents or real.suffix in CODE_SUFFIXES
        if not users or "__pycache__" in path.parts or name in recorded.written or real in known or not real.is_file():
            continue
        if is_installed(real) or any(folder in real.parents and folder not in root.resolve().parents for folder in allowed):
            continue
        if real not in _files_of_others(root):  # a warning quotes a line of its file
            raise ModelError(_sentence(model, "reads", shown(real, root), "put what it holds into that file, into the weights, or into model.arguments"))


def _sentence(model: Model, does: str, what: str, remedy: str) -> str:
    return f"model code beside {model.code} {does} {what}, which DVC does not see, so a change of it would rerun nothing; {remedy}"


def refuse_factories_in_arguments(arguments: Any, where: str = "model.arguments") -> None:
    """Raise ModelError where arguments hold a key that Hydra would take for an instruction, at any depth: only model._target_ names a factory."""
    if isinstance(arguments, dict):
        for key, value in arguments.items():
            if key in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
                raise ModelError(
                    f"{where} holds {key}, and model._target_ is the only factory, as DVC sees no code behind another; make the object inside model.code"
                )
            refuse_factories_in_arguments(value, f"{where}.{key}")
    elif isinstance(arguments, (list, tuple)):
        for index, value in enumerate(arguments):
            refuse_factories_in_arguments(value, f"{where}[{index}]")
