"""Stages started by another Python than the one that dvc runs in end in one sentence that says what to activate."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

from stages import activation
from support.project import ROOT


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without packages; the folder that it lies in."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder / "bin"


def run(command: str, bare: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{bare}:/usr/bin:/bin", "PYTHONPATH": ""}
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("stage", ["check_toolchain", "export", "probe_target"])
def test_a_python_without_our_packages_says_what_to_activate(stage: str, bare: Path) -> None:
    answer = run(f"exec python -m stages.{stage}", bare)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"error: stages run with the first python of the PATH, and {bare}/python has no yaml")
    assert line.endswith(" and start again")


def test_a_python_without_enginewright_is_told_at_the_first_stage(bare: Path, tmp_path: Path) -> None:
    """As in a project that `enginewright init` made, which has no stages/ of its own."""
    command = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["check_toolchain"]["cmd"]
    answer = run(f"cd {tmp_path}; {command.replace('-m stages.', '-m enginewright.stages.')}", bare)
    assert answer.returncode == 1
    assert "activate the environment that dvc is installed in" in answer.stderr.splitlines()[-1]


def test_the_environment_is_that_of_dvc(tmp_path: Path) -> None:
    here = activation(os.getpid())
    if sys.prefix != sys.base_prefix:
        assert here is not None
        assert Path(here).parent.samefile(Path(sys.executable).parent)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    assert activation(2**22 + 1, str(tmp_path)) == f"{tmp_path}/.venv/bin/activate"  # a process that cannot be
