"""params.yaml holds plain values alone: what DVC compares must be what a stage reads.

DVC reads the file with ruamel.yaml (YAML 1.2), stages read it with OmegaConf (YAML 1.1 and interpolations). Where the
two see different values, an edit can change what a stage does while DVC sees no change: `seed: 10` and `seed: 010` are
both 10 to DVC, and 10 and 8 to a stage.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import yaml

from enginewright.errors import ConfigError

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Plain scalars that YAML 1.1 and 1.2 take for different values: octal numbers, base 60, words for true and false,
# dates.
AMBIGUOUS = re.compile(
    r"[-+]?0[0-9_]+|0o[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|(?i:yes|no|on|off)|"
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"
)


def require_plain(
    text: str, where: Path, remedy: str = "; or write the file again with `enginewright configure`"
) -> None:
    """Check the text of a params.yaml, or what is to become one.

    Raises:
        ConfigError: an interpolation, a tag, or a value that DVC and a stage read differently, with its line.
        yaml.YAMLError: it is no YAML.
    """
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and (fault := _fault(event)):
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise ConfigError(f"{where}, line {line}: {fault}{remedy}")


def _fault(event: Any) -> Optional[str]:
    if event.tag is not None and event.tag != "!":  # "!" marks a quoted text
        return f"the tag {event.tag} is not read by all alike; write the value without it"
    return _fault_of_value(event.value, bool(event.style)) if isinstance(event, yaml.ScalarEvent) else None


def _fault_of_value(value: str, quoted: bool) -> Optional[str]:
    if "${" in value:
        return (
            f"{value[:80]!r} is an interpolation, whose value could change without DVC noticing; write the value itself"
        )
    if value == "???":
        return "??? stands for a value that is missing, and a stage would take its default; write the value itself"
    if "\0" in value:
        return f"{value[:80]!r} holds a null character; leave it out"
    if not quoted and AMBIGUOUS.fullmatch(value):
        return (
            f"{value} is one value to DVC and another to a stage; write numbers in decimal, true or false, and text in"
            " quotes"
        )
    return None
