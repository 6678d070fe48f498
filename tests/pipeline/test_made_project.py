"""What `enginewright init` makes, with the wheel and no checkout: two projects in one repository, and one cache."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from support import wheel
from support.project import ROOT, Project, Run

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("made")]
FIRST, SECOND = "models/first", "models/second"


@dataclass
class Made:
    """A repository with two projects."""

    root: Path
    site: Path

    def project(self, name: str) -> Project:
        return Project(self.root / name, {"PYTHONPATH": str(self.site)})

    def call(self, name: str, *command: str) -> Run:
        return self.project(name).call(*command)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    repository = Made(folder / "repository", wheel.install(folder / "wheel"))
    repository.root.mkdir()
    (repository.root / ".gitignore").write_text("*.log\n")
    git(repository.root, "init", "-q")
    for name in (FIRST, SECOND):
        run = repository.call(".", "python", "-m", "enginewright.cli", "init", name)
        assert run.code == 0, run.output
        assert f"{name} is a project; next: cd {name} && dvc repro" in run.output
    return repository


def git(folder: Path, *arguments: str) -> str:
    named = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run([*named, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_project_is_a_few_small_files(made: Made) -> None:
    files = set(git(made.root, "ls-files", "--cached", "--others", "--exclude-standard", FIRST).split())
    names = {name.removeprefix(f"{FIRST}/") for name in files}
    assert {"dvc.yaml", "params.yaml", "toolchain.yaml", "conf/config.yaml", "README.md", ".dvc/config"} <= names
    assert len([name for name in names if not name.startswith(".dvc/plots/")]) <= 15
    assert sum((made.root / name).stat().st_size for name in files if "/.dvc/plots/" not in name) < 64 << 10


def test_its_pipeline_differs_from_ours_in_the_module_path_alone(made: Made) -> None:
    theirs = (made.root / FIRST / "dvc.yaml").read_text().splitlines()
    ours = (ROOT / "dvc.yaml").read_text().splitlines()
    changed = {(old, new) for old, new in zip(ours, theirs) if old != new}
    assert len(ours) == len(theirs)
    assert len(changed) == len(yaml.safe_load("\n".join(ours))["stages"])
    assert all(new == old.replace("python -m stages.", "python -m enginewright.stages.") for old, new in changed)


def test_its_settings_are_ours(made: Made) -> None:
    assert (made.root / FIRST / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_git_sees_neither_the_cache_nor_what_stages_make(made: Made) -> None:
    assert (made.root / ".gitignore").read_text() == "*.log\n/.dvc-cache/\n"


def test_an_option_that_neither_has_is_answered_with_those_of_the_library(made: Made) -> None:
    run = made.call(FIRST, "python", "-m", "enginewright.cli", "configure", "calibration=entropi")
    assert run.code == 2
    assert "did you mean 'entropy'?" in run.output


def test_an_option_of_its_own_joins_those_of_the_library(made: Made) -> None:
    option = made.root / SECOND / "conf" / "calibration" / "few.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("bins: 512\n")
    try:
        run = made.call(SECOND, "python", "-m", "enginewright.cli", "configure", "calibration=few")
        assert run.code == 0, run.output
        params = yaml.safe_load((made.root / SECOND / "params.yaml").read_text())
        assert params["calibration"]["bins"] == 512
        assert params["calibration"]["algorithm"] == "entropy"
    finally:
        option.unlink()
        assert made.call(SECOND, "python", "-m", "enginewright.cli", "configure", "--reset").code == 0


def test_a_loop_over_the_projects_makes_each_and_the_second_restores_what_the_first_made(made: Made) -> None:
    runs = {}
    for name in (FIRST, SECOND):
        assert made.call(name, "python", "-m", "enginewright.cli", "configure", "debug=smoke").code == 0
        assert made.call(name, "python", "-m", "enginewright.cli", "lock", "--check").code == 0
        runs[name] = made.project(name).repro()
        assert runs[name].code == 0, runs[name].output
    always = {"check_toolchain", "probe_target"}
    every = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert runs[FIRST].ran == every
    assert runs[SECOND].ran == always, runs[SECOND].output
    assert runs[SECOND].restored == every - always
    assert made.project(FIRST).repro().ran == always
    git(made.root, "add", "-A")
    tracked = git(made.root, "ls-files")
    assert f"{FIRST}/dvc.lock" in tracked
    assert "engine.onnx" not in tracked
    assert ".dvc-cache" not in tracked
    assert str(made.root) not in (made.root / SECOND / ".dvc" / "config").read_text()
