"""Members of a registry that another package brings: their source counts as ours does, installed or editable."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from enginewright.errors import ConfigError
from enginewright.toolchain.digest import digest

OUTSIDE = " of "  # in the value of such a member: "<sha256> of my_package"


def digest_of_outside(kind: str, names: Collection[str]) -> dict[str, str]:
    """Name -> "<sha256 of its source> of <package>", of packages that declare names in the group `enginewright.<kind>`.

    Raises:
        ConfigError: no installed package declares the name, or its source is nowhere to be found.
    """
    if not names:
        return {}
    group, found = f"enginewright.{kind}", metadata.entry_points()
    # Python 3.9 returns a dictionary of groups, and cannot select
    chosen = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
    declared, digests = {entry.name: entry for entry in chosen}, {}
    for name in sorted(names):
        if name not in declared:
            raise ConfigError(
                f"no installed package brings {kind[:-1]} '{name}', which params.yaml names; install it here, or run"
                " `enginewright configure` with another one"
            )
        package = declared[name].value.partition(":")[0].partition(".")[0]
        digests[name] = f"{_digest(package)}{OUTSIDE}{package}"
    return digests


def _digest(package: str) -> str:
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = {path.relative_to(folder).as_posix(): path for folder in folders for path in folder.rglob("*.py")}
    if not files and spec and spec.origin:
        files = {Path(spec.origin).name: Path(spec.origin)}
    if not files:
        raise ConfigError(
            f"the package {package} has no Python source here, so no change of it would be seen; install it again"
        )
    return digest(files)
