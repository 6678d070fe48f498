"""Params of another experiment than the choices were made for, or of another version, are refused in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Optional

import pytest

from enginewright.errors import ConfigError
from enginewright.selection import require_same_experiment, require_same_version


@pytest.mark.parametrize(
    ("experiment", "made_for", "sentence"),
    [
        pytest.param(
            "a",
            "b",
            "the choices in conf/selected.yaml were made for experiment b and would win over what experiment a sets;"
            " run `enginewright configure --reset experiment=a` to drop them, or `enginewright configure experiment=a`"
            " to keep them",
            id="another",
        ),
        pytest.param("a", None, "were made for no experiment and would win over what experiment a sets", id="none"),
        pytest.param(None, "b", "run `enginewright configure --reset` to drop them", id="no longer"),
    ],
)
def test_choices_of_another_experiment(experiment: Optional[str], made_for: Optional[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        require_same_experiment({"experiment": experiment, "selected_for": made_for})


@pytest.mark.parametrize("experiment", ["a", None])
def test_choices_of_the_same_experiment(experiment: Optional[str]) -> None:
    require_same_experiment({"experiment": experiment, "selected_for": experiment})


def test_another_version() -> None:
    require_same_version("1.0", installed="1.0")
    with pytest.raises(ConfigError, match=r"was written by enginewright 1\.0 and 1\.1 is installed"):
        require_same_version("1.0", installed="1.1")


def test_the_check_needs_the_standard_library_alone() -> None:
    program = (
        "import enginewright.selection, sys; print([n for n in ('numpy', 'yaml', 'omegaconf') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
