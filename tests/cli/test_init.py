"""`enginewright init`: which folders it refuses. tests/pipeline/test_made_project.py runs what it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewright.cli import main


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param(["model.onnx"], "mine is not empty: it holds model.onnx", id="one-file"),
        pytest.param(["a", "b", "c"], "mine is not empty: it holds a and 2 more", id="files"),
        pytest.param([".env"], "mine is not empty: it holds .env", id="hidden"),
    ],
)
def test_a_folder_that_holds_something_is_left_alone(
    here: Path, files: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine").mkdir()
    for name in files:
        (here / "mine" / name).write_text("kept")
    assert refused("mine") == 2
    assert capsys.readouterr().err == f"error: {said}; name a folder that does not exist yet\n"
    assert sorted(path.name for path in (here / "mine").iterdir()) == sorted(files)


def test_a_file_is_no_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine").write_text("kept")
    assert refused("mine") == 2
    assert capsys.readouterr().err == "error: mine is a file; name a folder that does not exist yet\n"


def test_without_git_it_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(here))
    assert refused("mine") == 2
    assert capsys.readouterr().err == "error: git is not installed, and DVC needs it; install git and run this again\n"
    assert not (here / "mine").exists()


def refused(folder: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["init", folder])
    assert isinstance(ended.value.code, int)
    return ended.value.code
