"""Members of a registry that another package brings count by their source, installed or editable."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from enginewright.errors import ConfigError
from enginewright.toolchain import TOOLCHAIN_FILE, check, compute
from enginewright.toolchain.imports import Library

PLUGIN = "depth_of_tests"


@pytest.fixture
def plugin(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a folder of its own, as an editable installation leaves it, and a project that takes its task."""
    folder = tmp_path / "plugin"
    (folder / PLUGIN).mkdir(parents=True)
    (folder / PLUGIN / "__init__.py").touch()
    (folder / PLUGIN / "task.py").write_text("TASK = 1\n")
    found = folder / f"{PLUGIN}-1.0.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text(f"[enginewright.tasks]\ndepth = {PLUGIN}.task:TASK\n")
    monkeypatch.syspath_prepend(folder)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("task: a", "task: depth"))
    return folder / PLUGIN


def test_an_edit_of_it_is_a_change_of_the_stages_that_may_call_it(root: Path, plugin: Path) -> None:
    library, params = Library(root / "enginewright"), yaml.safe_load((root / "params.yaml").read_text())
    found = compute(library, params)
    (root / TOOLCHAIN_FILE).write_text(found.text())
    assert found.code["tasks"]["depth"].endswith(f" of {PLUGIN}")
    check(root, library)
    (plugin / "task.py").write_text("TASK = 2\n")
    with pytest.raises(
        ConfigError, match=r"tasks\.depth changed: run `enginewright lock`, which makes build_fp32 stale"
    ):
        check(root, library)


def test_a_name_that_was_chosen_since_is_a_change_and_one_that_nobody_brings_is_refused(
    root: Path, plugin: Path
) -> None:
    library, params = Library(root / "enginewright"), yaml.safe_load((root / "params.yaml").read_text())
    (root / TOOLCHAIN_FILE).write_text(compute(library, {**params, "model": {"task": "a"}}).text())
    with pytest.raises(ConfigError, match=r"tasks\.depth changed"):
        check(root, library)
    with pytest.raises(ConfigError, match=r"no installed package brings task 'dept', which params\.yaml names"):
        compute(library, {**params, "model": {"task": "dept"}})
