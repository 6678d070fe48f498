"""`enginewright lock` on a copy of the project's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from toolchain.test_packages import install

from enginewright.cli import main

pytestmark = pytest.mark.slow


def lock(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lock", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def locked(configured: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert lock() == 0
    capsys.readouterr()
    return configured


def test_a_second_time_it_changes_nothing(locked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (locked / "toolchain.yaml").read_bytes()
    assert lock() == 0
    assert capsys.readouterr().out == "toolchain.yaml makes nothing stale\n"
    assert (locked / "toolchain.yaml").read_bytes() == before
    assert lock("--check") == 0


def test_another_version_makes_exactly_the_stages_stale_that_list_it(
    locked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (locked / "packages").mkdir()
    install(locked / "packages", "onnxruntime", "99.2")
    monkeypatch.syspath_prepend(locked / "packages")
    assert lock("--check") == 0  # another version here is nobody else's concern
    assert "onnxruntime 99.2 is installed here and 1" in capsys.readouterr().out
    assert lock() == 0
    stages = yaml.safe_load((locked / "dvc.yaml").read_text())["stages"]
    using = [name for name, stage in stages.items() if "packages.onnxruntime" in str(stage.get("params"))]
    assert {"calibrate", "check_onnx"} <= set(using)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("  packages.onnxruntime: ")
    assert printed[0].endswith(" is now 99.2")
    assert printed[1] == f"stale, and perhaps what is behind them: {', '.join(using)}; `dvc repro` runs them"


def test_it_repairs_a_file_that_a_merge_put_together_and_keeps_versions(
    locked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = locked / "toolchain.yaml"
    whole = file.read_bytes()
    file.write_text(file.read_text().replace("  calibrate: ", "  calibrate: 0"))
    assert lock("--check") == 2
    assert "such as after a merge" in capsys.readouterr().err
    monkeypatch.setattr("enginewright.toolchain.packages.installed", lambda _: None)
    assert lock() == 0
    assert file.read_bytes() == whole
