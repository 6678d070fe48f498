"""What people read: lines that fit on a screen, and decisions that are found by their number."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support.project import ROOT

COLUMNS = 120
WRITTEN = (".py", ".md", ".yaml", ".toml", ".sh", ".txt", ".gitignore", "Makefile", "run")
NOT_OURS = (
    "LICENSE",  # the Apache Software Foundation's
    "artifacts/",  # stages write it
    "data/",
    "docs/measurements/",  # as the machines wrote it
)


def written() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [name for name in names if name.endswith(WRITTEN) and not name.startswith(NOT_OURS)]


def test_no_line_is_longer_than_the_columns() -> None:
    """Those of a table too: a long cell is an item of a list."""
    long = [
        f"{name}:{number}"
        for name in written()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert not long, f"over {COLUMNS} columns: {long}"


DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("path", DECISIONS, ids=[path.stem[:4] for path in DECISIONS])
def test_a_decision_opens_with_its_number_and_what_was_decided(path: Path) -> None:
    title = path.read_text().splitlines()[0]
    assert re.fullmatch(rf"# {int(path.name[:4])}\. \S.*[^.]", title), title


def test_no_two_decisions_have_one_number() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert len(set(numbers)) == len(numbers)


def test_the_index_lists_each_decision_by_its_title() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text().replace("\n  ", " ")
    titles = {path.name: path.read_text().splitlines()[0].removeprefix("# ") for path in DECISIONS}
    listed = re.findall(r"^- \[(\d+)\]\((.+?)\)(\. .+)$", index, re.MULTILINE)
    assert {name: number + title for number, name, title in listed} == titles


def test_decisions_that_the_code_names_exist() -> None:
    named = {
        match
        for name in written()
        if name.endswith((".py", ".md", ".yaml"))
        for match in re.findall(r"decisions/(\d{4}-[\w.-]+?\.md)", (ROOT / name).read_text(encoding="utf-8"))
    }
    assert named <= {path.name for path in DECISIONS}
