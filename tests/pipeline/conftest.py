"""A whole project in a temporary folder: made once with the smoke settings, then copied for each test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.project import Project, checkout, stages


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole DAG after its first `dvc repro`. Not to be changed by a test: take `project`."""
    root = tmp_path_factory.mktemp("reproduced") / "project"
    root.mkdir()
    checkout(root)
    project = Project(root)
    project.configure()
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    run = project.repro()
    assert run.code == 0, run.output
    assert run.ran == set(stages()), run.output
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the reproduced project, with its cache, to do anything to."""
    root = tmp_path / "project"
    shutil.copytree(reproduced.root, root, symlinks=True)
    yield Project(root)
    shutil.rmtree(tmp_path, ignore_errors=True)
