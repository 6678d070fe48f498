"""What model code loads while it runs: a module or a file of the user's that DVC does not hash is refused by its name.

`model.code` names files and folders, the only ones of the user's that DVC tracks for the model. Whatever else they load
could change without a rerun, and the old ONNX and engines would stay "up to date"
(github.com/treeverse/dvc/issues/9195). Python's own library, installed packages and enginewright.models are fine: the
first two have versions, the last counts in toolchain.yaml. `models/opened.py` notes what is loaded.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from enginewright.config import Model
from enginewright.errors import ModelError
from enginewright.layout import Layout
from enginewright.models.opened import Opened, recording

PACKAGE = Path(__file__).resolve().parents[1]
# What counts for every stage that runs model code, or decides no bytes (toolchain.yaml).
OURS = ("models", "config", "manifest", "target", "errors", "layout", "stage")
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so")
INSTALLED = ("site-packages", "dist-packages")
SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")


_inside: dict[
    Path, set[str]
] = {}  # the project -> modules that its model code loaded, also in an earlier block of this process


@contextlib.contextmanager
def watching(model: Model, project: Layout, stage_reads: bool = False) -> Iterator[None]:
    """Run model code in this block; at its end, look at what was imported and read.

    Args:
        model: its `code` and `weights` may be read.
        project: what they are relative to.
        stage_reads: code of ours runs in the block too, and may import modules of ours and read artifacts.

    Raises:
        ModelError: naming the first module or file that DVC does not see.
    """
    root, entered, writes = project.root.absolute(), frozenset(sys.modules), sys.dont_write_bytecode
    try:
        sys.dont_write_bytecode = True  # a __pycache__ in a folder beside the project would be a change of that folder
        with recording(sources(model, project)) as opened:
            yield
    finally:
        sys.dont_write_bytecode = writes
        _inside.setdefault(root, set()).update(sys.modules.keys() - entered)
    _require_known_modules(model, project)
    _require_known_modules_of_ours(model, opened.imported if stage_reads else sys.modules.keys() - entered)
    _require_known_files(model, project, opened, stage_reads)


def sources(model: Model, project: Layout) -> list[Path]:
    """The files and folders of model.code, without links. Raises ModelError if one does not exist."""
    for name in model.own_code:
        if not project.file(name).exists():
            raise ModelError(f"model.code names {name}, which does not exist; mend the path, or put the code there")
    return [project.file(name).resolve() for name in model.own_code]


def source_files(model: Model, project: Layout) -> list[Path]:
    """Every file of model.code, those in folders too, as the sidecar of what they made names them."""
    found: list[Path] = []
    for path in map(project.file, model.own_code):
        inside = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found += [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return found


def covers(paths: Iterable[Path], file: Path) -> bool:
    """Whether a file is one of these, or lies in one of them."""
    return any(path == file or path in file.parents for path in paths)


def is_installed(path: Path, root: Path) -> bool:
    """Whether a file is of Python itself or of an installed package, which have versions; an editable install is a
    folder of the user's, and so is a folder of the project (`root`) that is called site-packages.
    """
    if any(folder in path.parents for folder in _folders_of_packages()):
        return True
    if not set(INSTALLED) & set(path.parts):
        return False
    vendored = root.resolve() in path.parents and not any((folder / "pyvenv.cfg").is_file() for folder in path.parents)
    return not vendored  # it has no versions


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


def shown(path: Path, root: Path) -> str:
    """Relative to the project where it lies in it."""
    root = root.resolve()
    return path.relative_to(root).as_posix() if root in path.parents else str(path)


def _file_of(module: ModuleType) -> Optional[Path]:
    spec = getattr(module, "__spec__", None)
    named = getattr(module, "__file__", None) or (spec.origin if spec and spec.has_location else None)
    return (
        Path(named).resolve() if isinstance(named, str) and os.path.isabs(named) else None
    )  # torch.classes says that it is "_classes.py"


def _files_of_others(root: Path) -> set[Optional[Path]]:
    return {_file_of(module) for name, module in list(sys.modules.items()) if name not in _inside[root]}


def _require_known_modules_of_ours(model: Model, imported: Iterable[str]) -> None:
    for name in sorted(imported):
        package, _, rest = name.partition(".")
        if package == PACKAGE.name and rest and rest.partition(".")[0] not in OURS:
            raise ModelError(
                f"{model.written_in} imports {name}, which no stage of the model depends on; copy what it needs into"
                " your own code"
            )


def _require_known_modules(model: Model, project: Layout) -> None:
    code, root = sources(model, project), project.root.absolute()
    for name in sorted(_inside[root] & sys.modules.keys()):
        file = _file_of(sys.modules[name])
        if file is None or covers(code, file) or is_installed(file, root) or is_ours(file):
            continue
        if file in _files_of_others(root):  # the stage's own script under a second name
            continue
        raise ModelError(
            _sentence(model, "imports", shown(file, root), "add it, or the folder that it lies in, to model.code")
        )


def _require_known_files(model: Model, project: Layout, opened: Opened, stage_reads: bool) -> None:
    known, root = _known(model, project), project.root.absolute()
    ours = [PACKAGE, *([project.artifacts.resolve()] if stage_reads else [])]
    for name in opened.read:
        path = Path(name)
        real = path.resolve()
        if (
            covers(known, real)
            or not real.is_file()
            or is_installed(real, root)
            or any(folder in real.parents for folder in ours)
        ):
            continue
        if root not in path.parents and real.suffix not in CODE_SUFFIXES and _is_of_the_machine(real, root.resolve()):
            continue
        if real not in _files_of_others(root):  # a warning quotes a line of its file
            raise ModelError(
                _sentence(
                    model,
                    "reads",
                    shown(real, root),
                    "add it, or the folder that it lies in, to model.code",
                )
            )


def _known(model: Model, project: Layout) -> list[Path]:
    return [*sources(model, project), project.file(model.weights).resolve()]


def _is_of_the_machine(path: Path, root: Path) -> bool:
    """Whether a file beyond the project is the system's, a cache, or temporary: what is left is of the user's, such as
    a table in a folder beside.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    if root in path.parents:
        return False
    if (
        temporary in path.parents
    ):  # where a whole project lies there, what lies around it is no more temporary than that
        return not (temporary in root.parents and root.parent != temporary and root.parent in path.parents)
    if any(Path(folder) in path.parents for folder in (*SYSTEM, sys.prefix, sys.base_prefix)):
        return True
    home = Path.home()
    return home in path.parents and path.relative_to(home).parts[0].startswith(".")


def _sentence(model: Model, does: str, what: str, remedy: str) -> str:
    return (
        f"model code beside {model.written_in} {does} {what}, which DVC does not see, so a change of it would rerun"
        f" nothing; {remedy}"
    )


def refuse_factories_in_arguments(arguments: Any, where: str = "model.arguments") -> None:
    """Raise ModelError where arguments hold a key that Hydra would take for an instruction, at any depth: only
    model._target_ names a factory.
    """
    if isinstance(arguments, dict):
        for key, value in arguments.items():
            if key in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
                raise ModelError(
                    f"{where} holds {key}, and model._target_ is the only factory, as DVC sees no code behind another;"
                    " make the object inside model.code"
                )
            refuse_factories_in_arguments(value, f"{where}.{key}")
    elif isinstance(arguments, (list, tuple)):
        for index, value in enumerate(arguments):
            refuse_factories_in_arguments(value, f"{where}[{index}]")


def refuse_files_in_arguments(model: Model, project: Layout, arguments: Any, where: str = "model.arguments") -> None:
    """Raise ModelError where an argument names a file: a library that opens it without Python (TorchScript,
    safetensors) would not be noticed.
    """
    if isinstance(arguments, dict):
        for key, value in arguments.items():
            refuse_files_in_arguments(model, project, value, f"{where}.{key}")
    elif isinstance(arguments, (list, tuple)):
        for index, value in enumerate(arguments):
            refuse_files_in_arguments(model, project, value, f"{where}[{index}]")
    elif isinstance(arguments, str) and os.path.isfile(project.file(arguments)):
        real = project.file(arguments).resolve()
        if not covers(_known(model, project), real) and not is_installed(real, project.root):
            remedy = "add it to model.code, or put what it holds into the weights or into model.arguments"
            raise ModelError(
                f"{where} names the file {arguments}, which DVC does not see, so a change of it would rerun nothing;"
                f" {remedy}"
            )
