"""`dvc exp run` starts from the choices that `enginewright configure` kept, and is refused where they would win over an
experiment.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.project import Project, checkout

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("selected")]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout in which somebody has chosen something, committed."""
    root: Path = tmp_path_factory.mktemp("selected") / "project"
    root.mkdir()
    checkout(root)
    project = Project(root)
    project.configure("data.calibration_images=40")
    assert project.call("python", "-m", "enginewright.cli", "lock").code == 0
    project.git("init", "-q")
    project.git("add", "-A")
    project.git("commit", "-qm", "start")
    return project


def test_an_experiment_starts_from_the_choices(chosen: Project) -> None:
    run = chosen.call("dvc", "exp", "run", "-S", "seed=5", "check_toolchain")
    assert run.code == 0, run.output
    params = yaml.safe_load((chosen.root / "params.yaml").read_text())
    assert (params["seed"], params["data"]["calibration_images"], params["train"]["epochs"]) == (5, 40, 2)
    chosen.git("checkout", "--", ".")
    assert chosen.call("python", "-m", "enginewright.cli", "configure", "--check").code == 0


def test_an_experiment_whose_settings_the_choices_would_hide_is_refused(chosen: Project) -> None:
    run = chosen.call("dvc", "exp", "run", "-S", "experiment=fashion_mnist", "check_toolchain")
    assert run.code != 0
    assert (
        "error: check_toolchain: the choices in conf/selected.yaml were made for no experiment and would win over what"
        " experiment fashion_mnist sets; run `enginewright configure --reset experiment=fashion_mnist` to drop them"
        in run.output
    )
    chosen.git("checkout", "--", ".")
