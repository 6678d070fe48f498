"""What all tests share: strict floating point, and a project folder to stand in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from support.project import ROOT

np.seterr(divide="raise", over="raise", invalid="raise")  # an underflow to zero is what softmax tails do, and is right


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one: paths in sidecars and dvc.yaml are relative to the project's root."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def configured(here: Path) -> Path:
    """The same with the project's conf/, params.yaml and dvc.yaml."""
    shutil.copytree(ROOT / "conf", here / "conf")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy2(ROOT / name, here / name)
    return here
