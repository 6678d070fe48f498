"""check_toolchain refuses params of another version, or of an experiment that earlier choices were not made for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from enginewright import __version__
from enginewright.cli.composition import compose, to_text
from enginewright.cli.selected import Selection
from stages.check_toolchain import CHECKED, check_toolchain
from support.project import ROOT


@pytest.fixture
def project(configured: Path) -> Path:
    shutil.copy2(ROOT / "toolchain.yaml", configured / "toolchain.yaml")
    return configured


def test_a_params_yaml_of_another_version(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace(f"enginewright_version: {__version__}", "enginewright_version: 0.0.9"))
    assert check_toolchain() == 2
    assert capsys.readouterr().err == (
        f"error: check_toolchain: the configuration was written by enginewright 0.0.9 and {__version__} is installed;"
        " `enginewright upgrade --check` shows what would change, and `enginewright upgrade` writes it\n"
    )
    assert not CHECKED.exists()


def test_an_experiment_that_the_choices_were_not_made_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `dvc exp run -S experiment=fashion_mnist` composes it, where Hydra says nothing."""
    (project / "conf/selected.yaml").write_text(Selection({}, {"data": {"calibration_images": 40}}).to_text())
    (project / "params.yaml").write_text(to_text(compose(["experiment=fashion_mnist"])))
    assert check_toolchain() == 2
    assert (
        "were made for no experiment and would win over what experiment fashion_mnist sets" in capsys.readouterr().err
    )
    assert not CHECKED.exists()
