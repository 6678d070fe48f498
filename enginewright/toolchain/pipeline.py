"""dvc.yaml as far as staleness needs it: which keys a stage lists, with `${...}` filled in from params.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from enginewright.errors import ConfigError

# libyaml's, where PyYAML was built with it, takes an eighth of the time
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


def load(path: Path) -> dict[str, Any]:
    """What a YAML file holds. Raises ConfigError if it is missing or no mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), SAFE_LOADER)
    except FileNotFoundError:
        raise ConfigError(
            f"{path.name} does not exist in {path.absolute().parent}; run from the project's root"
        ) from None
    except yaml.YAMLError as fault:
        raise ConfigError(f"{path.name} is no YAML ({' '.join(str(fault).split())}); mend it") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} holds no mapping; mend it")
    return content


def stages(root: Path) -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml, by name."""
    found: dict[str, dict[str, Any]] = load(root / "dvc.yaml").get("stages", {})
    return found


def keys_of(stage: Mapping[str, Any], file: str) -> list[str]:
    """The keys of a params file that a stage lists, as they stand in dvc.yaml."""
    return [key for entry in stage.get("params", []) if isinstance(entry, dict) for key in entry.get(file) or ()]


def filled(text: str, params: Mapping[str, Any]) -> str:
    """A text with its `${a.b}` replaced by what params.yaml has there. Raises ConfigError."""

    def value(match: re.Match[str]) -> str:
        node: Any = params
        for part in match.group(1).split("."):
            if not isinstance(node, Mapping) or part not in node:
                raise ConfigError(
                    f"params.yaml has no {match.group(1)}, which dvc.yaml asks for; run `enginewright configure`"
                )
            node = node[part]
        return str(node)

    return TEMPLATE.sub(value, text)


def listing(changed: Iterable[str], file: str, root: Path) -> list[str]:
    """The stages, in the order of dvc.yaml, of which a listed key of `file` is, holds or lies in a changed one."""
    params, keys = load(root / "params.yaml"), list(changed)
    return [
        name
        for name, stage in stages(root).items()
        if any(_overlap(filled(own, params), key) for own in keys_of(stage, file) for key in keys)
    ]


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
