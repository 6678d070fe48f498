"""A whole project in a temporary folder: made once with the smoke settings, then copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.project import Project, checkout, stages


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole DAG after its first `dvc repro`, dvc.lock and metrics committed. Not to be changed by a test: take
    `project`.
    """
    root = tmp_path_factory.mktemp("reproduced") / "project"
    root.mkdir()
    checkout(root)
    project = Project(root)
    project.configure()
    project.git("init", "-q")
    project.git("add", "-A")
    project.git("commit", "-qm", "start")
    run = project.repro()
    assert run.code == 0, run.output
    assert run.ran == set(stages()), run.output
    project.git("add", "-A")
    project.git("commit", "-qm", "reproduced")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the reproduced project, with its cache, to do anything to."""
    root = tmp_path / "project"
    shutil.copytree(reproduced.root, root, symlinks=True)
    yield Project(root)
    shutil.rmtree(tmp_path, ignore_errors=True)
