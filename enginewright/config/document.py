"""The schema as text: the files of conf/ that hold each default once, and docs/settings.md.

Both are written from the schema, so that a default, a range and a line of help stand in one place. Tests hold the files
equal to what is written here (docs/decisions/0025-settings.md).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Optional, get_args, get_type_hints

from enginewright.config.params import Params
from enginewright.config.setting import Setting, names_of, setting_of
from enginewright.registry import Registry

GROUPS = ("model", "data", "calibration", "accuracy", "benchmark")  # sections with options: folders of conf/
WIDTH = 120
WRITTEN = "Written from enginewright/config by `enginewright settings --write`: change a default there."


@dataclass(frozen=True)
class Entry:
    """A setting, or a section of them."""

    key: str  # dotted
    value: Any  # the default
    described: Optional[Setting]  # None for a section
    choices: tuple[str, ...]  # names that an Enum or a registry knows

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    @property
    def depth(self) -> int:
        """How many sections it lies in."""
        return self.key.count(".")

    def help(self) -> str:
        """Return one sentence: what it is, and what it may be."""
        if self.described is None:
            return (inspect.getdoc(type(self.value)) or "").splitlines()[0]
        allowed = ", ".join(self.choices) or self.described.range()
        return f"{self.described.help} ({allowed})" if allowed else self.described.help

    def text(self) -> str:
        """Return the default as conf/ and params.yaml write it."""
        return in_yaml(self.value)


def entries(section: Any = None, prefix: str = "") -> Iterator[Entry]:
    """Yield every section and setting in the order of the schema; a section before what it holds."""
    section = Params() if section is None else section
    hints = get_type_hints(type(section))
    for declared in fields(section):
        key, value = f"{prefix}{declared.name}", getattr(section, declared.name)
        described = setting_of(declared)
        yield Entry(key, value, described, _choices(hints[declared.name], described))
        if is_dataclass(value):
            yield from entries(value, f"{key}.")


def base(group: str = "") -> str:
    """Return the text of conf/<group>/base.yaml, or of conf/base.yaml: every default with its help above it."""
    lines = [f"# {WRITTEN}"]
    if group:
        lines.append(f"# {next(entry for entry in entries() if entry.key == group).help()}")
        lines.append("# An option beside this file holds its difference.")
        wanted = [entry for entry in entries() if entry.key.startswith(f"{group}.")]
    else:
        lines.append(
            "# Every setting has its default here or in one of these; what is listed later in config.yaml wins."
        )
        lines.append("defaults:")
        lines += [f"  - {name}/base" for name in GROUPS]
        lines.append("  - _self_")
        wanted = [entry for entry in entries() if entry.key.split(".")[0] not in GROUPS]
    for entry in wanted:
        lines += _setting_in_yaml(entry, entry.depth - (1 if group else 0))
    return "\n".join(lines) + "\n"


def markdown(chosen: str = "") -> str:
    """Return every setting as Markdown, or those of one section or key."""
    wanted = [entry for entry in entries() if not chosen or f"{entry.key}.".startswith(f"{chosen}.")]
    blocks = ["\n".join(_items(wanted, chosen.rpartition(".")[0]))]
    for entry in wanted:
        if entry.described is None:
            heading = [f"{'#' * (2 + entry.depth)} {entry.key}", "", entry.help()]
            items = list(_items(wanted, entry.key))
            blocks.append("\n".join([*heading, *([""] if items else []), *items]))
    return "\n\n".join(filter(None, blocks)) + "\n"


def page() -> str:
    """Return the text of docs/settings.md."""
    return (
        "# Settings\n\n"
        f"{WRITTEN}\n"
        "Each line is a setting with its default, what it is, and in brackets what it may be.\n"
        "`enginewright settings KEY` prints a part of this page.\n\n" + markdown()
    )


def _items(wanted: Sequence[Entry], section: str) -> Iterator[str]:
    """The settings that stand in a section itself, as a list."""
    for entry in wanted:
        if entry.described is not None and entry.key.rpartition(".")[0] == section:
            yield from textwrap.wrap(
                f"- `{entry.key}: {entry.text()}`: {entry.help()}",
                WIDTH,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )


def _setting_in_yaml(entry: Entry, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if entry.described is None:
        yield ""
    yield from textwrap.wrap(entry.help(), WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    if entry.described is None:
        yield f"{indent}{entry.name}:"
    else:
        text = entry.described.composed or entry.text()
        yield f"{indent}{entry.name}:{text if text.startswith(chr(10)) else ' ' + text}"


def _choices(hint: Any, described: Optional[Setting]) -> tuple[str, ...]:
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return tuple(kind.__members__)
    if described is None or described.choices is None:
        return ()
    choices = described.choices() if callable(described.choices) else described.choices
    if isinstance(choices, Registry):
        return tuple(choices.builtin)  # not what happens to be installed where this is written
    return tuple(names_of(choices))


def in_yaml(value: Any) -> str:
    """Return a value as YAML writes it on one line."""
    import yaml

    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {in_yaml(one)}' for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, value))}]"
    if isinstance(value, Enum):
        value = value.name
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("...\n").strip()
