"""A project that a command may configure: what its configuration names is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.project import ROOT


@pytest.fixture
def project(configured: Path) -> Path:
    """conf/, params.yaml and dvc.yaml, with the data folders, the files of layers, and the code of each model."""
    for folder in ("data", "layers"):
        shutil.copytree(ROOT / folder, configured / folder, ignore=shutil.ignore_patterns("*.npy", "*.gz"))
    code = configured / "enginewright/models"
    code.mkdir(parents=True)
    for file in (ROOT / "enginewright/models").glob("*.py"):
        shutil.copy2(file, code / file.name)
    return configured
