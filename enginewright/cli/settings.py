"""`enginewright settings`: what may be configured, with defaults, ranges and help."""

from __future__ import annotations

import argparse
from pathlib import Path

from enginewright.cli import presets
from enginewright.cli.composition import CONF
from enginewright.config import document
from enginewright.errors import ConfigError, nearest

SUMMARY = "print the settings of params.yaml: defaults, ranges and help"
EXAMPLES = """examples:
  enginewright settings                          every setting
  enginewright settings build                    a section
  enginewright settings build.workspace_mib      one setting"""
PAGE = Path("docs/settings.md")
PRESETS = """
## Presets of data.preprocessing

`enginewright configure preprocessing=NAME` sets all of it but the layout; single settings after it win. Each is a file
of conf/preprocessing/; docs/preprocessing.md says more.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("key", nargs="?", default="", help="a section or a setting (default: all of them)")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write {PAGE} and the base.yaml files of {CONF}/ (for who edits the schema)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print, or write the files that are made from the schema."""
    if arguments.write:
        for path, text in generated().items():
            path.write_text(text, encoding="utf-8")
        return 0
    text = document.markdown(arguments.key)
    if not text.strip():
        keys = [entry.key for entry in document.entries()]
        raise ConfigError(f"{arguments.key} is not a setting{nearest(arguments.key, keys)}")
    print(text, end="")
    return 0


def generated() -> dict[Path, str]:
    """Return every file that is written from the schema, and its text; the list of presets from their files."""
    bases = {CONF / group / "base.yaml": document.base(group) for group in ("", *document.GROUPS)}
    return {**bases, PAGE: document.page() + "\n".join([PRESETS, *presets.listed(), ""])}
