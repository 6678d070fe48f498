"""Names of ours, names that an installed package adds, and what happens with one that nobody has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from enginewright.errors import ConfigError
from enginewright.registry import Registry

COLOURS: Registry[str] = Registry("colours", {"red": "enginewright._version:__version__"})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that declares two colours, one of which cannot be imported."""
    info = tmp_path / "paint-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paint\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[enginewright.colours]\ngreen = paint_of_a_test:GREEN\nblue = nowhere:BLUE\n"
    )
    (tmp_path / "paint_of_a_test.py").write_text("GREEN = 'green paint'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "paint_of_a_test", raising=False)


def test_a_name_of_ours_is_imported_on_first_use() -> None:
    from enginewright import __version__

    assert COLOURS.get("red") == __version__
    assert "red" in COLOURS


@pytest.mark.usefixtures("package")
def test_an_installed_package_adds_a_name() -> None:
    assert COLOURS.get("green") == "green paint"
    assert COLOURS.names() == ("red", "blue", "green")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("gren", "there is no colour 'gren'; did you mean 'green'\\?", id="nearest"),
        pytest.param("blue", "the colour 'blue' is declared as nowhere:BLUE, which cannot be loaded", id="broken"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        COLOURS.get(name)
