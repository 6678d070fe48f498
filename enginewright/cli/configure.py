"""`enginewright configure`: write params.yaml, the one file that stages read and DVC tracks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Optional, cast

from omegaconf import DictConfig, OmegaConf

from enginewright.cli.composition import Change, changes, compose, load, stale_stages, to_text
from enginewright.config import PARAMS_FILE
from enginewright.errors import ConfigError
from enginewright.manifest import replacing
from enginewright.stage import PIPELINE_FILE

SUMMARY = "compose conf/ with overrides, check it, and write params.yaml"
EXAMPLES = """examples:
  enginewright configure                                      the defaults of conf/config.yaml
  enginewright configure calibration=minmax                   another file of conf/calibration/
  enginewright configure data.calibration_images=100 seed=1   single settings
  enginewright configure +model.arguments.width=16            an argument for the model's factory
  enginewright configure --check                              is params.yaml what conf/ composes to?

`dvc exp run -S ...` composes by itself, from the defaults: overrides given here do not carry over to it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "overrides", nargs="*", metavar="override", help="in Hydra's grammar: group=option, key=value, +key=value"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 2 if params.yaml is not what conf/ and these overrides compose to",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compose, check, and write or compare."""
    composed = compose(arguments.overrides)
    if arguments.check:
        _compare(composed, arguments.overrides)
        return 0
    before = load(PARAMS_FILE)
    text = to_text(composed)
    if not PARAMS_FILE.exists() or PARAMS_FILE.read_text(encoding="utf-8") != text:
        with replacing(PARAMS_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _report(before, _values(composed))
    return 0


def _values(composed: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(composed))


def _compare(composed: DictConfig, overrides: Sequence[str]) -> None:
    """Byte for byte, because `dvc exp run` writes these bytes, and a file that differs in order alone would show as a
    change in git.
    """
    if PARAMS_FILE.exists() and PARAMS_FILE.read_text(encoding="utf-8") == to_text(composed):
        return
    command = " ".join(["enginewright configure", *overrides])
    found = load(PARAMS_FILE)
    if found is None:
        raise ConfigError(f"{PARAMS_FILE} is missing or no YAML mapping; write it with `{command}`")
    differing = [
        f"{change.key} is {_shown(change.before)}, conf/ has {_shown(change.after)}"
        for change in changes(found, _values(composed))
    ]
    what = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
    raise ConfigError(
        f"{PARAMS_FILE} is not what conf/ composes to ({what or 'order or layout differs'}); write it with `{command}`"
    )


def _report(before: Optional[Mapping[str, Any]], after: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, markup=False, highlight=False)  # a list such as [x] is no markup
    changed: list[Change] = list(changes(before, after)) if before is not None else []
    if before is None:
        console.print(f"{PARAMS_FILE} written; `dvc repro` runs what it makes stale")
        return
    if not changed:
        console.print(f"{PARAMS_FILE} is as it was: nothing becomes stale")
        return
    table = Table("setting", "was", "is", title=f"{PARAMS_FILE}", title_justify="left")
    for change in changed:
        table.add_row(change.key, _shown(change.before), _shown(change.after))
    console.print(table)
    stale = stale_stages([change.key for change in changed], PIPELINE_FILE, after) if PIPELINE_FILE.exists() else []
    table = Table(
        "stage", "setting", "behind", title="`dvc repro` will run", title_justify="left", caption_justify="left"
    )
    table.caption = "What is only behind others runs if their outputs change."
    for stage in stale:
        table.add_row(stage.name, ", ".join(stage.changed), ", ".join(stage.behind))
    console.print(table if stale else "No stage declares what changed: nothing becomes stale")


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
