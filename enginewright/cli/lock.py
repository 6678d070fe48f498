"""`enginewright lock`: write toolchain.yaml, by which DVC sees what the library and its packages make stale."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from enginewright import toolchain
from enginewright.manifest import replacing
from enginewright.toolchain import lockfile, packages, pipeline

SUMMARY = "write toolchain.yaml: what each stage executes, and the versions that decide its bytes"
EXAMPLES = """examples:
  enginewright lock            after an edit of the library, or with another version of a package
  enginewright lock --check    is toolchain.yaml of the library that runs?

A package that is not installed here keeps the version that it was locked with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 2 if toolchain.yaml is not of the library that runs, as the stages would",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare, or write and say what becomes stale."""
    root = Path()
    if arguments.check:
        toolchain.check(root)
        _print_differing_packages(root)
        return 0
    path = root / toolchain.TOOLCHAIN_FILE
    before = toolchain.read(path, sealed=False) if path.exists() else None  # versions count after a merge too
    now = toolchain.compute(toolchain.here(), pipeline.load(root / "params.yaml"), before)
    report = _report(root, before, now)
    if before is None or path.read_text() != now.text():
        with replacing(path) as temporary:
            temporary.write_text(now.text())
    print("\n".join(report))
    return 0


def _report(root: Path, before: Optional[toolchain.Toolchain], now: toolchain.Toolchain) -> list[str]:
    """What changed, and what becomes stale."""
    if before is None:
        return [f"{toolchain.TOOLCHAIN_FILE} written; commit it"]
    versions = lockfile.changed_keys(before.packages, now.packages, "packages")
    found = [f"  {name}" for name in lockfile.changed_modules(before.modules, now.modules)]
    found += [f"  {key}: {_at(before.packages, key)} is now {_at(now.packages, key)}" for key in versions]
    keys = lockfile.changed_keys(before.code, now.code, "code") + versions
    stale = pipeline.listing(keys, toolchain.TOOLCHAIN_FILE.name, root)
    if not stale:
        return [*found, f"{toolchain.TOOLCHAIN_FILE} makes nothing stale"]
    return [*found, f"stale, and perhaps what is behind them: {', '.join(stale)}; `dvc repro` runs them"]


def _at(values: object, key: str) -> str:
    for part in key.split(".")[1:]:
        values = values.get(part) if isinstance(values, dict) else None
    return str(values) if values is not None else "not known"


def _print_differing_packages(root: Path) -> None:
    locked = {
        package: version
        for name in pipeline.stages(root)
        for package, version in lockfile.locked_packages(root, name).items()
    }
    for package, version in sorted(locked.items()):
        here = packages.installed(package)
        if here not in (None, version):
            print(
                f"{package} {here} is installed here and {version or 'no version'} is locked: a stage that used it is"
                " refused if it has to run here"
            )
