"""conf/selected.yaml: what `enginewright configure` was told, kept for `dvc repro`, `dvc exp run` and sweeps alike."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import yaml

from enginewright import __version__
from enginewright.cli.composition import CONF, groups, option_file, overlap, parse, require_project
from enginewright.errors import ConfigError
from enginewright.manifest import replacing
from enginewright.selection import SELECTED_FOR, VERSION

SELECTED = CONF / "selected.yaml"
HEADER = (
    "# Written by `enginewright configure`, which adds to these choices; `enginewright configure --reset` drops them.\n"
    "# Composed last, by `dvc exp run -S ...` too. Commit it together with params.yaml.\n"
)


@dataclass(frozen=True)
class Selection:
    """Choices on top of conf/config.yaml."""

    options: Mapping[str, str] = field(default_factory=dict)  # group -> name of its file
    settings: Mapping[str, Any] = field(default_factory=dict)  # nested, as in params.yaml
    version: Optional[str] = __version__  # of the library that wrote them

    @property
    def experiment(self) -> Optional[str]:
        """The experiment that the choices are for."""
        return self.options.get("experiment")

    def choices(self) -> dict[str, Any]:
        """Return every choice, as override -> value, groups first."""
        return {**self.options, **dict(_leaves(self.settings))}

    def to_text(self) -> str:
        """Return the content of conf/selected.yaml: a Hydra config."""
        content: dict[str, Any] = {}
        if self.options:
            content["defaults"] = [{f"override /{group}": option} for group, option in self.options.items()]
        content[VERSION] = self.version
        if self.options or self.settings:  # without any choice it goes with every experiment
            content[SELECTED_FOR] = self.experiment
        return HEADER + yaml.safe_dump({**content, **self.settings}, sort_keys=False)


def read(path: Path = SELECTED) -> Selection:
    """Read the choices made so far; none if there is no such file.

    Raises:
        ConfigError: the file is not what `configure` writes.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        options = {
            key.removeprefix("override /"): option
            for entry in content.pop("defaults", [])
            if entry != "_self_"
            for key, option in entry.items()
        }
        version = content.pop(VERSION, None)
        content.pop(SELECTED_FOR, None)
    except FileNotFoundError:
        return Selection()
    except (yaml.YAMLError, AttributeError, TypeError):
        raise ConfigError(
            f"{path} is not a list of choices; mend it, or drop what it holds with `enginewright configure --reset`"
        ) from None
    return Selection(options, content, version)


def add(selection: Selection, overrides: Sequence[str], conf: Path = CONF) -> Selection:
    """Return the choices with more of them; a later one takes the place of an earlier one.

    Raises:
        ConfigError: an override takes a setting away or is of what is written here anyway, or an earlier choice would
            win over a new experiment.
    """
    options, settings = dict(selection.options), copy.deepcopy(dict(selection.settings))
    known = groups(conf)
    given = parse(overrides)
    for override in given:
        if override.is_delete():
            raise ConfigError(
                f"the override {override.input_line} takes away what conf/ sets, which {SELECTED} cannot hold; write"
                " an option of your own without it"
            )
        if override.key_or_group in (VERSION, SELECTED_FOR):
            raise ConfigError(
                f"the override {override.input_line} sets what `enginewright configure` writes itself; leave it out"
            )
        if override.key_or_group in known:
            options[override.key_or_group] = str(override.value())
        else:
            _merge(settings, override.key_or_group.split("."), override.value())
    added = replace(selection, options=options, settings=settings)
    if added.experiment != selection.experiment:
        _refuse_clash(selection, added.experiment, [override.key_or_group for override in given], conf)
    return added


def _refuse_clash(earlier: Selection, experiment: Optional[str], given: Sequence[str], conf: Path) -> None:
    file = option_file("experiment", experiment, conf) if experiment else None
    if file is None:
        return
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    entries = [entry for entry in content.pop("defaults", []) if entry != "_self_"]
    chosen = [str(key).rpartition("/")[2] for entry in entries for key in entry]
    sets = [*chosen, *dict(_leaves(content))]
    # an option is composed before the experiment, and wins only where that chooses one of the same group
    wins: dict[str, Any] = {key: value for key, value in earlier.options.items() if key in chosen}
    wins.update((key, value) for key, value in _leaves(earlier.settings) if any(overlap(key, own, ".") for own in sets))
    clashes = [f"{key}={value}" for key, value in wins.items() if key not in given]
    if clashes:
        raise ConfigError(
            f"{SELECTED} holds {', '.join(clashes)}, which would win over what experiment {experiment} sets; drop the"
            f" earlier choices with `enginewright configure --reset experiment={experiment}`, or give those that you"
            " want again"
        )


@contextlib.contextmanager
def provisional(text: str, path: Path = SELECTED) -> Iterator[None]:
    """Have this text in the file while it is composed, and keep it if nothing was raised.

    Raises:
        ConfigError: there is no project here.
    """
    require_project(path.parent)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if text != before:
        _write(path, text)
    try:
        yield
    except BaseException:
        if before is None:
            path.unlink(missing_ok=True)
        elif text != before:
            _write(path, before)
        raise


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _merge(node: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value; a mapping is merged into the one that is there, as Hydra merges it."""
    first, *rest = path
    below = node.get(first)
    if rest:
        node[first] = below if isinstance(below, dict) else {}
        _merge(node[first], rest, value)
    elif isinstance(value, dict) and isinstance(below, dict):
        for key, item in value.items():
            _merge(below, [key], item)
    else:
        node[first] = value


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
