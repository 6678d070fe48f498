"""`enginewright upgrade`: compose the same choices with the version of enginewright that is installed."""

from __future__ import annotations

import argparse
from dataclasses import replace

from enginewright import __version__
from enginewright.cli import selected
from enginewright.cli.composition import changes, compose, load
from enginewright.cli.configure import differences, report, values, write
from enginewright.config import PARAMS_FILE
from enginewright.selection import VERSION

SUMMARY = "compose the same choices with the installed version, after another one was installed"
EXAMPLES = """examples:
  enginewright upgrade --check      which settings the installed version would change
  enginewright upgrade              write them, and the version, into params.yaml and conf/selected.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--check", action="store_true", help="write nothing, only show what would change")


def run(arguments: argparse.Namespace) -> int:
    """Compose the choices again, and write or show the difference."""
    earlier = selected.read()
    if arguments.check:
        after = values(compose([f"{VERSION}='{__version__}'"]))
        lines = differences(list(changes(load(PARAMS_FILE) or {}, after)))
    else:
        before, written = write(replace(earlier, version=__version__))
        lines = report(before, written, earlier)
    for line in lines:
        print(line)
    if not arguments.check:
        print("`enginewright lock` brings toolchain.yaml up to date")
    return 0
