"""The presets of conf/preprocessing/: a name for how a family of models is fed, and a line that says what it is."""

from __future__ import annotations

import textwrap
from pathlib import Path

from enginewright.cli.composition import CONF, groups, option_file
from enginewright.config.document import WIDTH

GROUP = "preprocessing"


def described(conf: Path = CONF) -> dict[str, str]:
    """Return what each preset is, by name: the line below its command."""
    found = {}
    for name in groups(conf).get(GROUP, []):
        file = option_file(GROUP, name, conf)
        lines = file.read_text(encoding="utf-8").splitlines() if file else []
        said = [line[1:].strip() for line in lines if line.startswith("#")]
        plain = [line for line in said if line and not line.startswith(("@package", "enginewright configure"))]
        found[name] = plain[0] if plain else "a preset of your own"
    return found


def listed(conf: Path = CONF) -> list[str]:
    """Return the presets as lines of Markdown."""
    return [
        line
        for name, what in described(conf).items()
        for line in textwrap.wrap(
            f"- `{name}`: {what}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    ]
