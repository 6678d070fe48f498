"""What all tests share: strict floating point, and a project folder to stand in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from support.project import ROOT

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # both go by the time that it takes
settings.load_profile("any machine")

np.seterr(divide="raise", over="raise", invalid="raise")  # an underflow to zero is what softmax tails do, and is right


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a device lies in the machine's temporary folder: without one of its own a test waits for the tests of
    the process beside it.
    """
    folder = str(tmp_path_factory.getbasetemp())
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one: paths in sidecars and dvc.yaml are relative to the project's root."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def configured(here: Path) -> Path:
    """The same with the project's conf/, params.yaml, dvc.yaml and toolchain.yaml."""
    shutil.copytree(ROOT / "conf", here / "conf")
    for name in ("params.yaml", "dvc.yaml", "toolchain.yaml"):
        shutil.copy2(ROOT / name, here / name)
    return here
