"""toolchain.yaml: what changes a key, what a refusal says, and that every machine writes the same bytes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from toolchain.conftest import write

from enginewright.errors import ConfigError
from enginewright.toolchain import TOOLCHAIN_FILE, Toolchain, check, compute, read
from enginewright.toolchain.imports import Library
from enginewright.toolchain.lockfile import changed_keys, expected_keys, locked_packages
from support.project import ROOT


def locked(root: Path) -> Toolchain:
    """Write the file as `enginewright lock` does."""
    found = compute(Library(root / "enginewright"), yaml.safe_load((root / "params.yaml").read_text()))
    (root / TOOLCHAIN_FILE).write_text(found.text())
    return found


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "# a comment\n")


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        pytest.param("enginewright/graph/index.py", ["build_fp32", "calibrate", "tasks.b"], id="shared"),
        pytest.param("enginewright/manifest.py", ["build_fp32", "calibrate"], id="what the harness writes with"),
        pytest.param("enginewright/tasks/a.py", ["tasks.a"], id="a member"),
        pytest.param("enginewright/runtimes/null/__init__.py", ["runtimes.null"], id="null, to which auto never comes"),
        pytest.param("enginewright/runtimes/tensorrt/engine.py", ["runtimes.auto", "runtimes.tensorrt"], id="probed"),
        pytest.param("stages/calibrate.py", ["calibrate"], id="a script"),
        pytest.param("enginewright/stage.py", [], id="the harness"),
        pytest.param("enginewright/unrelated.py", [], id="behind the harness alone"),
    ],
)
def test_an_edit_changes_the_keys_of_what_executes_it(root: Path, file: str, keys: list[str]) -> None:
    before = locked(root)
    edit(root / file)
    assert changed_keys(before.code, locked(root).code, "code") == [f"code.{key}" for key in keys]


def test_line_ends_and_the_place_of_the_project_change_nothing(root: Path, tmp_path: Path) -> None:
    before = locked(root)
    for path in root.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert locked(root) == before
    assert locked(write(tmp_path / "elsewhere/deep")) == before


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_every_python_writes_the_same_bytes(version: str) -> None:
    """The real library, in Pythons that have no package of ours but PyYAML."""
    program = (
        f"import sys; sys.path += [{str(Path(yaml.__file__).parents[1])!r}, {str(ROOT)!r}]\n"
        "from pathlib import Path; from enginewright import toolchain; from enginewright.toolchain import pipeline\n"
        "found = toolchain.compute(toolchain.here(), pipeline.load(Path('params.yaml')))\n"
        "sys.stdout.write(found.text())"
    )
    answers = [
        subprocess.run([command, "-c", program], cwd=ROOT, env=BARE, capture_output=True, text=True, check=True).stdout
        for command in (other_python(version), sys.executable)
    ]
    assert answers[0] == answers[1]


BARE = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def other_python(version: str) -> str:
    """Another Python of this machine, beside the one that runs or on the PATH; the test is skipped where none is."""
    beside = sorted(map(str, Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python")))
    for command in (*beside, f"python{version}"):
        with contextlib.suppress(OSError):
            if subprocess.run([command, "-c", ""], env=BARE, capture_output=True, check=False).returncode == 0:
                return command
    pytest.skip(f"Python {version} is not installed here")


def test_the_file_is_read_as_it_was_written(root: Path) -> None:
    before = locked(root)
    assert read(root / TOOLCHAIN_FILE) == before
    check(root, Library(root / "enginewright"))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        pytest.param(
            ["enginewright/graph/index.py"],
            "enginewright/graph/index.py changed: run `enginewright lock`, which makes calibrate and 1 more stage"
            " stale",
            id="two stages",
        ),
        pytest.param(
            ["enginewright/tasks/a.py"],
            "enginewright/tasks/a.py changed: run `enginewright lock`, which makes build_fp32 stale",
            id="the task that is configured",
        ),
        pytest.param(
            ["enginewright/runtimes/null/__init__.py"],
            "enginewright/runtimes/null/__init__.py changed: run `enginewright lock`, which makes no stage stale",
            id="a runtime that is not",
        ),
        pytest.param(
            [f"enginewright/{name}.py" for name in ("crop", "graph/qdq", "manifest", "tasks/a")],
            "enginewright/crop.py, enginewright/graph/qdq.py, enginewright/manifest.py and 1 more changed: run"
            " `enginewright lock`, which makes calibrate and 1 more stage stale",
            id="many files",
        ),
    ],
)
def test_a_change_is_refused_with_what_it_makes_stale(root: Path, files: list[str], sentence: str) -> None:
    locked(root)
    for file in files:
        edit(root / file)
    with pytest.raises(ConfigError) as fault:
        check(root, Library(root / "enginewright"))
    assert str(fault.value) == sentence
    locked(root)
    check(root, Library(root / "enginewright"))


def test_a_new_import_in_a_module_that_decides_nothing_is_no_change(root: Path) -> None:
    locked(root)
    edit(root / "enginewright/stage.py")
    check(root, Library(root / "enginewright"))


def test_another_module_behind_a_name_is_a_change(root: Path) -> None:
    locked(root)
    registry = root / "enginewright/registry.py"
    registry.write_text(registry.read_text().replace("enginewright.tasks.a:TASK", "enginewright.tasks.b:TASK"))
    with pytest.raises(ConfigError, match=r"enginewright/registry\.py changed: .* makes build_fp32 stale"):
        check(root, Library(root / "enginewright"))


def test_in_the_librarys_own_repository_the_remedy_is_make_sync(root: Path) -> None:
    locked(root)
    (root / "Makefile").touch()
    edit(root / "stages/calibrate.py")
    with pytest.raises(
        ConfigError, match=r"^stages/calibrate\.py changed: run `make sync`, which makes calibrate stale$"
    ):
        check(root, Library(root / "enginewright"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(lambda _: None, "toolchain.yaml is missing; write it with `enginewright lock`", id="missing"),
        pytest.param(lambda text: text.replace("calibrate: ", "calibrate: 0"), "such as after a merge", id="one key"),
        pytest.param(lambda text: text.replace("index.py ", "index.py 0"), "such as after a merge", id="one module"),
        pytest.param(
            lambda text: "<<<<<<< HEAD\n" + text,
            "toolchain.yaml holds the marks of a merge; take either side, such as with `git checkout --ours"
            " toolchain.yaml`, and run `enginewright lock`",
            id="a conflict",
        ),
        pytest.param(lambda text: text + "a: [\n", "toolchain.yaml is no YAML", id="no YAML"),
        pytest.param(lambda _: "[]\n", "toolchain.yaml holds no mapping", id="a list"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(root: Path, damage: object, sentence: str) -> None:
    text = locked(root).text()
    damaged = damage(text)  # type: ignore[operator]
    (root / TOOLCHAIN_FILE).unlink()
    if damaged is not None:
        (root / TOOLCHAIN_FILE).write_text(damaged)
    with pytest.raises(ConfigError, match=sentence):
        check(root, Library(root / "enginewright"))


def test_the_keys_that_a_stage_has_to_list(root: Path) -> None:
    library = Library(root / "enginewright")
    assert expected_keys(library, "calibrate") == ["code.calibrate", "packages.onnxruntime"]
    assert expected_keys(library, "build_fp32") == [
        "code.build_fp32",
        "code.runtimes.onnxruntime",  # which stands in where FP32 is not built for the target
        "code.runtimes.${runtime}",
        "code.tasks.${model.task}",
    ]


def test_a_package_that_is_not_installed_keeps_its_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, params = Library(root / "enginewright"), yaml.safe_load((root / "params.yaml").read_text())
    before = locked(root)
    monkeypatch.setattr("enginewright.toolchain.packages.installed", lambda _: None)
    assert compute(library, params, before) == before
    assert compute(library, params).packages["onnxruntime"] is None
    assert locked_packages(root, "calibrate") == {"onnxruntime": before.packages["onnxruntime"]}
    assert locked_packages(root, "build_fp32") == {}
