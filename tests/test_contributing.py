"""CONTRIBUTING.md draws the tree and the layers as they are."""

from __future__ import annotations

import ast
import re
import subprocess

from support.project import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGE = "enginewright/"


def block(title: str) -> list[str]:
    """The lines of the code block below a heading."""
    return TEXT.partition(f"## {title}\n```\n")[2].partition("\n```")[0].splitlines()


def drawn() -> tuple[set[str], set[str]]:
    """The names at the top, and those in the package."""
    lines = [(line.startswith("  "), re.split(r"\s{2,}", line.strip())[0].split()) for line in block("The tree")]
    return (
        {name for inside, names in lines for name in names if not inside},
        {name for inside, names in lines for name in names if inside},
    )


def tracked(below: str = "") -> set[str]:
    """What git has in a folder, folders with a slash, without hidden files."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", below or "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [path.removeprefix(below) for path in listed.stdout.splitlines() if (ROOT / path).exists()]
    names = {f"{first}/" if rest else first for first, _, rest in (path.partition("/") for path in paths)}
    return {name for name in names if not name.startswith((".", "__"))}


def layers() -> list[set[str]]:
    """Those of pyproject.toml, the highest first."""
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("\n]")[0]
    lines = re.findall(r'^  "+([^"]*)"+,$', re.sub(r"\\\n", "", contract), re.MULTILINE)
    return [{name.strip().removeprefix("enginewright.") for name in re.split(r"[|:]", line)} for line in lines]


def test_the_tree_is_that_of_the_repository() -> None:
    assert drawn()[0] == tracked()


def test_the_tree_of_the_package_is_that_of_its_folder() -> None:
    assert drawn()[1] == tracked(PACKAGE) - {"py.typed"}


def test_the_layers_are_those_that_the_linter_holds() -> None:
    text = " ".join(block("Imports point one way"))
    assert [{name.strip() for name in layer.split(",")} for layer in text.split(">")] == layers()


def test_no_test_measures_time() -> None:
    """Nor has one a limit of its own: the one in pyproject.toml is for what hangs."""
    clocks = {"time.monotonic", "time.perf_counter", "time.time", "time.process_time", "pytest.mark.timeout"}
    measuring = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).replace("_ns", "") in clocks
    }
    assert measuring == set()
