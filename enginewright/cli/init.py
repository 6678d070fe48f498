"""`enginewright init`: a project of a few small files that runs the stages of the installed library."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import enginewright
from enginewright.cli import onnx_project
from enginewright.cli.library import PACKAGE, library_conf, library_files
from enginewright.cli.onnx_detector import PINNED
from enginewright.cli.onnx_project import Plan
from enginewright.errors import ConfigError

SUMMARY = "make a project: a few small files, ready for `dvc repro`"
EXAMPLES = """examples:
  enginewright init my_model                       a project of its own, with git and DVC
  enginewright init models/detector                one of several in a repository; their caches are shared
  enginewright init my_model --onnx model.onnx --data images/ --task classification --preprocess imagenet
                                                   an existing model and images of your own (docs/projects.md)

One project is one model. docs/projects.md shows several in one repository."""

SHARED_CACHE = ".dvc-cache"  # at the root of a repository with several projects
STAGES = "python -m stages."  # how dvc.yaml starts them in the library's own repository

SEARCH_PATH = """\
hydra:
  searchpath: [pkg://enginewright.conf]  # every group and option that this folder does not hold
"""
DVC_CONFIG = """\
[hydra]
    enabled = true
    config_dir = conf
    config_name = config
[core]
    autostage = false
    analytics = false
[cache]
    type = "reflink,copy"
"""
IGNORED = """\
# Hand-written: after a failed `dvc repro` DVC has not added its own entries yet, and `git add -A` would take engines.
/artifacts/*
!/artifacts/metrics/
!/artifacts/toolchain/
/.cache/
/.venv/
/dvc_plots/
/multirun/
/outputs/
__pycache__/
*.partial
"""
README = """\
# {name}

A model on its way to calibrated engines, by Enginewright {version}. `dvc repro` runs what is stale.

| file | what it is |
|---|---|
| `conf/config.yaml` | settings of this project; options of your own go to `conf/<group>/` |
| `conf/selected.yaml` | what `enginewright configure` chose |
| `params.yaml` | all settings, written by `enginewright configure`; the stages read it |
| `dvc.yaml`, `dvc.lock` | the pipeline, and what was run |
| `toolchain.yaml` | the code and versions that the results depend on, written by `enginewright lock` |
| `layers/search.yaml` | which layers stay in FP16: searched, or pinned by you |
| `data/` | images, or a note where they come from |

    enginewright configure model=own data=image_folder    your own model and images; it says which files are missing
    dvc repro                                              everything that is stale, then the gate
    enginewright compare                                   the precisions side by side
    enginewright doctor                                    what this machine can do, and what to install

Commit all of this, `dvc.lock`, `artifacts/metrics/` and `artifacts/toolchain/`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("folder", type=Path, help="where to make it; it must not exist yet, or be empty")
    onnx_project.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, prepare git and DVC, and say what to do next."""
    folder: Path = arguments.folder
    _refuse_occupied(folder)
    _require_tools()
    plan = onnx_project.planned(arguments)
    with _all_or_nothing(folder):
        repository = _repository(folder)
        _write_files(folder, plan)
        _init(folder, repository)
        _settle(folder)
    for line in plan.said if plan else ():
        print(line)
    print(f"{folder} is a project; next: cd {shlex.quote(str(folder))} && dvc repro")
    return 0


def _require_tools() -> None:
    if shutil.which("git") is None:
        raise ConfigError("git is not installed, and DVC needs it; install git and run this again")
    for module in ("dvc", "hydra"):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(name=module)  # which the command line answers with the extra
    if importlib.util.find_spec("enginewright.conf") is None:
        raise ConfigError(
            f"{PACKAGE.parent} is a checkout, in which a project finds no package enginewright.conf; install it with"
            " `pip install .`, without -e"
        )


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Make a folder; where what follows fails, take away what it wrote there, so that it can be tried again."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ConfigError(f"{folder} cannot be made ({fault.strerror}); name a folder that can") from None
    before = set(folder.iterdir())
    try:
        yield
    except BaseException:
        for path in set(folder.iterdir()) - before:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if made:
            folder.rmdir()
        raise


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder that does not exist yet")
    held = sorted(path.name for path in folder.iterdir() if path.name != ".git") if folder.exists() else []
    if held:
        more = f" and {len(held) - 1} more" if len(held) > 1 else ""
        raise ConfigError(f"{folder} is not empty: it holds {held[0]}{more}; name a folder that does not exist yet")


def _repository(folder: Path) -> Optional[Path]:
    """The root of the git repository around a folder, or None."""
    answer = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=folder, capture_output=True, text=True, check=False
    )
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None


def _write_files(folder: Path, plan: Optional[Plan]) -> None:
    source = library_files()
    pipeline = (source / "dvc.yaml").read_text(encoding="utf-8")
    texts = {
        "dvc.yaml": pipeline.replace(STAGES, "python -m enginewright.stages."),
        "conf/config.yaml": SEARCH_PATH + (library_conf() / "config.yaml").read_text(encoding="utf-8"),
        ".gitignore": IGNORED,
        "README.md": README.format(name=folder.resolve().name, version=enginewright.__version__),
    }
    pinned = PINNED.get(plan.detector.contract) if plan and plan.detector else None
    chosen = "layers/search.yaml", pinned, None if plan else "data/digits/README.md"
    for name in filter(None, chosen):
        texts[name] = (source / name).read_text(encoding="utf-8")
    if plan:
        texts.update(onnx_project.texts(plan, texts["conf/config.yaml"], folder))
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name, path in plan.copies.items() if plan else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder / name)


def _init(folder: Path, repository: Optional[Path]) -> None:
    """Make the folder a DVC project, in a repository of its own or in the one around it."""
    within = repository is not None and repository.resolve() != folder.resolve()
    if repository is None:
        _call(folder, "git", "init", "--quiet")
    _call(folder, sys.executable, "-m", "dvc", "init", "--quiet", *(["--subdir"] if within else []))
    config = folder / ".dvc" / "config"
    config.write_text(DVC_CONFIG)
    if within and repository is not None:
        _share_cache(folder, repository)
    shutil.copytree(library_files() / ".dvc" / "plots", folder / ".dvc" / "plots", dirs_exist_ok=True)


def _share_cache(folder: Path, repository: Path) -> None:
    """Let the projects of a repository restore each other's results: one cache, at its root."""
    own = repository / ".dvc"
    if not own.is_dir():
        ignored = repository / ".gitignore"
        lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
        if f"/{SHARED_CACHE}/" not in lines:
            ignored.write_text("\n".join([*lines, f"/{SHARED_CACHE}/"]) + "\n", encoding="utf-8")
    cache = own / "cache" if own.is_dir() else repository / SHARED_CACHE
    relative = os.path.relpath(cache.resolve(), folder.resolve())
    _call(folder, sys.executable, "-m", "dvc", "cache", "dir", "--quiet", relative)


def _settle(folder: Path) -> None:
    """Write params.yaml and toolchain.yaml as the commands do that the user will run later."""
    for command in ("configure", "lock"):
        _call(folder, sys.executable, "-m", "enginewright.cli", command)


def _call(folder: Path, *command: str) -> None:
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode:
        said = " ".join((answer.stderr or answer.stdout).split())
        raise ConfigError(f"`{' '.join(command)}` failed in {folder}: {said}")
