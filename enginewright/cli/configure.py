"""`enginewright configure`: write params.yaml, the one file that stages read and DVC tracks."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, cast

from omegaconf import DictConfig, OmegaConf

from enginewright import config
from enginewright.cli import selected
from enginewright.cli.composition import Change, changes, compose, load, stale_stages, to_text
from enginewright.cli.files import require_files
from enginewright.cli.selected import SELECTED, Selection
from enginewright.config import PARAMS_FILE, Params, document
from enginewright.errors import ConfigError
from enginewright.layout import Layout
from enginewright.manifest import replacing
from enginewright.selection import EXPERIMENT, require_same_experiment, require_same_version
from enginewright.stage import PIPELINE_FILE

SUMMARY = "add choices to conf/selected.yaml, compose conf/, check it, and write params.yaml"
EXAMPLES = """examples:
  enginewright configure calibration=minmax                   a file of conf/calibration/
  enginewright configure data.calibration_images=100 seed=1   single settings; calibration=minmax is kept
  enginewright configure                                      compose again, after an edit of conf/
  enginewright configure --reset                              drop every choice: the defaults of conf/config.yaml
  enginewright configure +model.arguments.width=16            an argument for the model's factory
  enginewright configure --check                              is params.yaml what conf/ composes to?

`dvc exp run -S ...` starts from the same choices."""
WIDTH = 110
MOST_CHANGES = 7  # that are listed: the whole report fits in 15 lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "overrides", nargs="*", metavar="override", help="in Hydra's grammar: group=option, key=value, +key=value"
    )
    alternatives = parser.add_mutually_exclusive_group()
    alternatives.add_argument("--reset", action="store_true", help="drop earlier choices")
    alternatives.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 2 if params.yaml is not what conf/ and these overrides compose to",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compose, check, and write or compare."""
    earlier = _dropped() if arguments.reset else selected.read()
    require_same_version(earlier.version)
    if arguments.check:
        composed = compose(arguments.overrides)
        require_same_experiment(values(composed))
        _compare(composed, arguments.overrides)
        _try(config.check(composed, "conf/"))
        return 0
    with selected.provisional(earlier.to_text()):
        if arguments.overrides:
            compose(arguments.overrides)  # says what is wrong with one of them
        chosen = selected.add(earlier, arguments.overrides)
        before, after = write(chosen)
    for line in report(before, after, earlier):
        print(line)
    return 0


def _dropped() -> Selection:
    """No choices, of the version that wrote the earlier ones; of this one where these cannot be read."""
    try:
        return Selection(version=selected.read().version)
    except ConfigError:
        return Selection()


def write(chosen: Selection) -> tuple[Optional[Mapping[str, Any]], Mapping[str, Any]]:
    """Write conf/selected.yaml and params.yaml, both or neither.

    Returns:
        What params.yaml held, None if it could not be read, and what it holds now.

    Raises:
        ConfigError: the composition is wrong, or names a file that does not exist.
    """
    with selected.provisional(chosen.to_text()):
        composed = compose()
        after = values(composed)
        if after[EXPERIMENT] != chosen.experiment:
            raise ConfigError(
                f"conf/experiment/{chosen.experiment}.yaml does not name itself; add the line `experiment:"
                f" {chosen.experiment}` to it"
            )
        params = config.check(composed, "conf/")
        require_files(params)
        _try(params)
        before, text = load(PARAMS_FILE), to_text(composed)
        if not PARAMS_FILE.exists() or PARAMS_FILE.read_text(encoding="utf-8") != text:
            with replacing(PARAMS_FILE) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return before, after


def _try(params: Params) -> None:
    """Run a model of the user's once, or read its file. Raises ModelError."""
    from enginewright.importers.trial import dry_run

    if note := dry_run(params, Layout()):
        print(f"configure: {note}", file=sys.stderr)


def values(composed: DictConfig) -> dict[str, Any]:
    """Return a composition as plain values."""
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
        raise ConfigError(f"{PARAMS_FILE} is missing or not a YAML mapping; write it with `{command}`")
    differing = [
        f"{change.key} is {shown(change.before)}, conf/ has {shown(change.after)}"
        for change in changes(found, values(composed))
    ]
    what = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
    raise ConfigError(
        f"{PARAMS_FILE} is not what conf/ composes to ({what or 'order or layout differs'}); write it with `{command}`"
    )


def report(before: Optional[Mapping[str, Any]], after: Mapping[str, Any], kept: Selection) -> Iterator[str]:
    """Yield what changed and what becomes stale, in at most 15 lines."""
    if before is None:
        yield f"{PARAMS_FILE} written; `dvc repro` runs what it makes stale"
        return
    changed = list(changes(before, after))
    yield from differences(changed)
    if kept.choices():
        choices = " ".join(f"{key}={shown(value)}" for key, value in kept.choices().items())
        yield textwrap.shorten(f"on top of {choices}", WIDTH - 20, placeholder=" ...") + f" ({SELECTED})"
    if not changed:
        return
    stale = stale_stages([change.key for change in changed], PIPELINE_FILE, after) if PIPELINE_FILE.exists() else []
    own = [stage.name for stage in stale if stage.changed]
    behind = [stage.name for stage in stale if not stage.changed]
    if not own:
        yield "no stage declares what changed: nothing becomes stale"
        return
    yield from textwrap.wrap(f"`dvc repro` runs {', '.join(own)}", WIDTH, subsequent_indent="  ")
    if behind:
        yield from textwrap.wrap(f"and, if their outputs change, {', '.join(behind)}", WIDTH, subsequent_indent="  ")


def differences(changed: Sequence[Change]) -> Iterator[str]:
    """Yield a line for each setting that changed, the first few of them."""
    if not changed:
        yield f"{PARAMS_FILE} is as it was: nothing becomes stale"
        return
    yield f"{PARAMS_FILE}: {len(changed)} setting{'s' if len(changed) > 1 else ''} changed"
    width = max(len(change.key) for change in changed[:MOST_CHANGES])
    for change in changed[:MOST_CHANGES]:
        line = f"  {change.key:{width}}  {shown(change.before)} -> {shown(change.after)}"
        yield line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..."
    if len(changed) > MOST_CHANGES:
        yield f"  and {len(changed) - MOST_CHANGES} more: `git diff {PARAMS_FILE}`"


def shown(value: object) -> str:
    """Return a value as YAML writes it."""
    return value if isinstance(value, str) else document.in_yaml(value)
