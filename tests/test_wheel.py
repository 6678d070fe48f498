"""What travels in the wheel, and where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import wheel
from support.project import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.install(tmp_path_factory.mktemp("wheel"))


def test_everything_of_the_library_is_in_it(site: Path) -> None:
    for folder, name in (("enginewright", "."), ("stages", "stages"), ("conf", "conf")):
        ours = {
            path.relative_to(ROOT / folder)
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".yaml", ".typed", ".json")
        }
        assert ours <= inside(site / "enginewright" / name), f"{folder}/ is not whole"


def inside(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_nothing_else_is_in_it(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"enginewright", "bin"}
    assert not list(site.rglob("test_*")) + list(site.rglob("setup.py"))


@pytest.mark.parametrize("module", ["enginewright.conf", "enginewright.stages.export"])
def test_conf_and_stages_are_modules_of_it(site: Path, module: str, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", f"import {module}; print({module}.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(answer.stdout.strip()).is_relative_to(site)
