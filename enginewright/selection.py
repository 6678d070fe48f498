"""What params.yaml is of: an experiment, the choices made for one, and the version of this library that composed it.

`conf/selected.yaml` holds earlier choices and is composed last, so its settings win over those of an experiment that is
asked for later (`dvc exp run -S experiment=...`), and Hydra does not say so. Standard library alone: the check runs in
each `dvc repro`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enginewright._version import __version__
from enginewright.errors import ConfigError

VERSION, EXPERIMENT, SELECTED_FOR = "enginewright_version", "experiment", "selected_for"  # keys of params.yaml


def require_same_experiment(params: Mapping[str, Any]) -> None:
    """Check that the choices in conf/selected.yaml were made for the experiment that params.yaml is of.

    Raises:
        ConfigError: they were made for another one.
    """
    experiment, made_for = params.get(EXPERIMENT), params.get(SELECTED_FOR)
    if experiment != made_for:
        wanted = f" experiment={experiment}" if experiment else ""
        raise ConfigError(
            f"the choices in conf/selected.yaml were made for {_named(made_for)} and would win over what"
            f" {_named(experiment)} sets; run `enginewright configure --reset{wanted}` to drop them"
            + (f", or `enginewright configure{wanted}` to keep them" if wanted else "")
        )


def require_same_version(written_by: object, installed: str = __version__) -> None:
    """Check that the configuration was composed by the version that is installed: another one may have other defaults.

    Raises:
        ConfigError: it was another version.
    """
    if written_by != installed:
        raise ConfigError(
            f"the configuration was written by enginewright {written_by or 'of an unknown version'} and {installed} is"
            " installed; `enginewright upgrade --check` shows what would change, and `enginewright upgrade` writes it"
        )


def _named(experiment: object) -> str:
    return f"experiment {experiment}" if experiment else "no experiment"
