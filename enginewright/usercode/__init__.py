"""What the user's own code loads while it runs: a module or file of the user's that DVC does not hash is refused by
name.

A setting such as `model.code` names files and folders, the only ones of the user's that DVC tracks for that code.
Whatever else they load could change without a rerun, and what was made of it would stay "up to date"
(github.com/treeverse/dvc/issues/9195). Python's own library, installed packages and what a stage executes of
Enginewright are fine: the first two have versions, the last counts in toolchain.yaml. `opened.py` notes what is loaded.
"""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Optional

from enginewright.errors import EnginewrightError
from enginewright.layout import Layout
from enginewright.usercode.opened import Opened, recording

PACKAGE = Path(__file__).resolve().parents[1]
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so")
INSTALLED = ("site-packages", "dist-packages")
SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")


# the project and the setting -> modules that its code loaded, also in an earlier block of this process
_inside: dict[tuple[Path, str], set[str]] = {}


@dataclass(frozen=True)
class UserCode:
    """Files and folders of the user's, and how sentences speak of them."""

    key: str  # the setting that names them
    named: tuple[str, ...]  # files and folders, relative to the project
    what: str  # such as "model code beside own_model.py"
    main: str  # where a sentence tells the user to look, such as own_model.py
    fault: type[EnginewrightError]
    # Modules of ours that it may import: what counts for every stage that runs it, or decides no bytes.
    ours: tuple[str, ...]
    whose: str  # what no stage depends on other modules of ours for, such as "the model"
    also: tuple[str, ...] = ()  # files and folders that DVC sees too, and that it may read


@contextlib.contextmanager
def watching(code: UserCode, project: Layout, stage_reads: bool = False) -> Iterator[None]:
    """Run the code in this block; at its end, look at what was imported and read.

    Args:
        code: what may be imported and read.
        project: what they are relative to.
        stage_reads: code of ours runs in the block too, and may import modules of ours and read artifacts.

    Raises:
        EnginewrightError: of `code.fault`, naming the first module or file that DVC does not see.
    """
    root, entered, writes = project.root.absolute(), frozenset(sys.modules), sys.dont_write_bytecode
    try:
        sys.dont_write_bytecode = True  # a __pycache__ in a folder beside the project would be a change of that folder
        with recording(sources(code, project)) as opened:
            yield
    finally:
        sys.dont_write_bytecode = writes
        _inside.setdefault((root, code.key), set()).update(sys.modules.keys() - entered)
    _require_known_modules(code, project)
    _require_known_modules_of_ours(code, opened.imported if stage_reads else sys.modules.keys() - entered)
    _require_known_files(code, project, opened, stage_reads)


def sources(code: UserCode, project: Layout) -> list[Path]:
    """The files and folders, without links. Raises `code.fault` if one does not exist."""
    for name in code.named:
        if not project.file(name).exists():
            raise code.fault(f"{code.key} names {name}, which does not exist; mend the path, or put the code there")
    return [project.file(name).resolve() for name in code.named]


def source_files(code: UserCode, project: Layout) -> list[Path]:
    """Every file of the code, those in folders too, as the sidecar of what they made names them."""
    found: list[Path] = []
    for path in map(project.file, code.named):
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


def _files_of_others(root: Path, key: str) -> set[Optional[Path]]:
    return {_file_of(module) for name, module in list(sys.modules.items()) if name not in _inside[root, key]}


def _require_known_modules_of_ours(code: UserCode, imported: Iterable[str]) -> None:
    for name in sorted(imported):
        package, _, rest = name.partition(".")
        if package == PACKAGE.name and rest and rest.partition(".")[0] not in code.ours:
            raise code.fault(
                f"{code.main} imports {name}, which no stage of {code.whose} depends on; copy what it needs into"
                " your own code"
            )


def _require_known_modules(code: UserCode, project: Layout) -> None:
    own, root = sources(code, project), project.root.absolute()
    for name in sorted(_inside[root, code.key] & sys.modules.keys()):
        file = _file_of(sys.modules[name])
        if file is None or covers(own, file) or is_installed(file, root) or is_ours(file):
            continue
        if file in _files_of_others(root, code.key):  # the stage's own script under a second name
            continue
        raise code.fault(_sentence(code, "imports", shown(file, root)))


def _require_known_files(code: UserCode, project: Layout, opened: Opened, stage_reads: bool) -> None:
    seen, root = known(code, project), project.root.absolute()
    ours = [PACKAGE, *([project.artifacts.resolve()] if stage_reads else [])]
    for name in opened.read:
        path = Path(name)
        real = path.resolve()
        if (
            covers(seen, real)
            or not real.is_file()
            or is_installed(real, root)
            or any(folder in real.parents for folder in ours)
        ):
            continue
        if root not in path.parents and real.suffix not in CODE_SUFFIXES and _is_of_the_machine(real, root.resolve()):
            continue
        if real not in _files_of_others(root, code.key):  # a warning quotes a line of its file
            raise code.fault(_sentence(code, "reads", shown(real, root)))


def known(code: UserCode, project: Layout) -> list[Path]:
    """Every file and folder that DVC sees for the code."""
    return [*sources(code, project), *(project.file(name).resolve() for name in code.also)]


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


def _sentence(code: UserCode, does: str, what: str) -> str:
    return (
        f"{code.what} {does} {what}, which DVC does not see, so a change of it would rerun nothing; add it, or the"
        f" folder that it lies in, to {code.key}"
    )
