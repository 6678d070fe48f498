"""Where `make` installs: what was activated, what is named, else .venv here."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.project import ROOT


@pytest.mark.parametrize(
    ("arguments", "environment", "folder"),
    [
        pytest.param([], {}, f"{ROOT}/.venv", id="default"),
        pytest.param(["VENV=other"], {}, f"{ROOT}/other", id="relative"),
        pytest.param(["VENV=/abs/path"], {}, "/abs/path", id="absolute"),
        pytest.param([], {"VIRTUAL_ENV": "/home/me/env"}, "/home/me/env", id="activated"),
        pytest.param(
            [],
            {"CONDA_PREFIX": "/opt/conda/envs/mine", "CONDA_DEFAULT_ENV": "mine"},
            "/opt/conda/envs/mine",
            id="conda",
        ),
        pytest.param([], {"CONDA_PREFIX": "/opt/conda", "CONDA_DEFAULT_ENV": "base"}, f"{ROOT}/.venv", id="conda-base"),
        pytest.param(["VENV=/abs/path"], {"VIRTUAL_ENV": "/home/me/env"}, "/abs/path", id="named-wins"),
    ],
)
def test_make_takes_the_environment(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    assert f"{folder}/bin/ruff check ." in planned("check", arguments, environment)


def test_check_installs_no_torch() -> None:
    plan = planned("check", ["VENV=/nowhere/yet"], {})
    assert "[pipeline,dev]" in plan
    assert "[host" not in plan


def planned(target: str, arguments: list[str], environment: dict[str, str]) -> str:
    """The commands of a target, not run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "CONDA_", "MAKE"))}
    answer = subprocess.run(
        ["make", "--dry-run", target, *arguments],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout
