"""Another installed version is refused until `enginewright upgrade` has written it; `--check` shows what changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewright import __version__
from enginewright.cli import main
from support.project import ROOT

pytestmark = pytest.mark.slow

SELECTED = Path("conf/selected.yaml")
PARAMS = Path("params.yaml")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def older(project: Path) -> Path:
    """Configured by a version that calibrated with 400 images and knew no selected_for."""
    assert call("configure", "seed=3") == 0
    SELECTED.write_text(SELECTED.read_text().replace(__version__, "0.0.9"))
    text = PARAMS.read_text().replace(f"enginewright_version: {__version__}", "enginewright_version: 0.0.9")
    PARAMS.write_text(
        text.replace("calibration_images: 500", "calibration_images: 400").replace("selected_for: null\n", "")
    )
    return project


@pytest.mark.parametrize("arguments", [[], ["--check"], ["--reset"], ["seed=4"]], ids=str)
def test_configure_refuses_until_then(older: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("configure", *arguments) == 2
    assert capsys.readouterr().err == (
        f"error: the configuration was written by enginewright 0.0.9 and {__version__} is installed; `enginewright"
        " upgrade --check` shows what would change, and `enginewright upgrade` writes it\n"
    )


def test_check_shows_the_difference_and_writes_nothing(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (SELECTED.read_bytes(), PARAMS.read_bytes())
    capsys.readouterr()
    assert call("upgrade", "--check") == 0
    assert capsys.readouterr().out.splitlines() == [
        "params.yaml: 3 settings changed",
        "  data.calibration_images  400 -> 500",
        f"  enginewright_version     0.0.9 -> {__version__}",
        "  selected_for             absent -> null",
    ]
    assert (SELECTED.read_bytes(), PARAMS.read_bytes()) == before


def test_upgrade_writes_the_version_and_keeps_the_choices(older: Path) -> None:
    assert call("upgrade") == 0
    assert f"enginewright_version: {__version__}\n" in SELECTED.read_text()
    assert "seed: 3\n" in PARAMS.read_text()
    assert "calibration_images: 500\n" in PARAMS.read_text()
    assert call("configure", "--check") == 0


def test_a_selection_without_a_version_is_upgraded_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SELECTED.write_text("seed: 3\n")
    assert call("configure") == 2
    assert "written by enginewright of an unknown version" in capsys.readouterr().err
    assert call("upgrade") == 0
    assert call("configure", "--check") == 0


def test_a_choice_that_this_version_does_not_know_is_named(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SELECTED.write_text(SELECTED.read_text() + "data: {calibration_imags: 3}\n")
    before = (SELECTED.read_bytes(), PARAMS.read_bytes())
    assert call("upgrade") == 2
    assert "data.calibration_imags is not a setting; did you mean 'calibration_images'?" in capsys.readouterr().err
    assert (SELECTED.read_bytes(), PARAMS.read_bytes()) == before


def test_this_repository_is_of_its_own_version() -> None:
    assert f"enginewright_version: {__version__}\n" in (ROOT / "conf/selected.yaml").read_text()
