"""`enginewright init`: which folders it refuses. tests/pipeline/test_made_project.py runs what it makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from enginewright.cli import init, main


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


def test_a_folder_that_cannot_be_made_is_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(init, "_require_tools", lambda: None)
    (here / "file").write_text("kept")
    assert refused("file/mine") == 2
    assert capsys.readouterr().err == ("error: file/mine cannot be made (Not a directory); name a folder that can\n")


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_what_fails_halfway_leaves_nothing_and_can_be_tried_again(
    here: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        (here / "mine").mkdir()
    monkeypatch.setattr(init, "_require_tools", lambda: None)
    monkeypatch.setattr(init, "SEARCH_PATH", "hydra: {searchpath: [pkg://not_there]}\n")
    assert refused("mine") == 2
    assert not there or not list((here / "mine").iterdir())
    assert (here / "mine").exists() == there


def test_a_checkout_on_the_path_is_refused_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "enginewright.conf" else find(name, *rest)
    )
    assert refused("mine") == 2
    assert "is a checkout, in which a project finds no package enginewright.conf" in capsys.readouterr().err
    assert not (here / "mine").exists()


def refused(folder: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["init", folder])
    assert isinstance(ended.value.code, int)
    return ended.value.code
