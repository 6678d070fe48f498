"""`enginewright verify`: every sealed artifact against its sidecar, and the links between them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.cli import chain
from enginewright.cli.chain import sealed
from enginewright.errors import StaleArtifact
from enginewright.layout import ARTIFACTS, Layout

PATHS = Layout()
SUMMARY = "check artifacts against their sidecars: whole, unchanged, and made from what lies beside them"
EXAMPLES = """examples:
  enginewright verify                             everything under artifacts/
  enginewright verify artifacts/engines           the engines, and that their inputs are still the recorded ones
  enginewright verify engine.trt                  one file, on the machine that it was brought to"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="path", help=f"files or folders (default: {PATHS.artifacts})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one sentence for each artifact that fails; exit code 2 if one does."""
    roots = arguments.paths or [PATHS.artifacts]
    found = sealed(root for root in roots if root != PATHS.artifacts or root.exists())
    if not found:
        raise StaleArtifact(f"nothing sealed lies under {', '.join(map(str, roots))}; run `dvc repro` first")
    named = [chain.artifact_of(path) for path in roots if not path.is_dir()]
    faults = {artifact: _fault(artifact, artifact in named) for artifact in found}
    for artifact, fault in faults.items():
        if fault:
            print(f"error: {fault}", file=sys.stderr)
        else:
            print(f"ok  {artifact}")
    whole = sum(fault is None for fault in faults.values())
    print(f"{whole} of {len(found)} artifacts are whole and made from what lies beside them")
    return 0 if whole == len(found) else 2


def _fault(artifact: Path, named: bool) -> Optional[str]:
    """What is wrong. A file that is named may have been carried to another machine, without what it was made from."""
    try:
        made = manifest.read(artifact)
        carried = (
            named
            and made.path
            and manifest.root_of(artifact, made) is None
            and ARTIFACTS not in artifact.absolute().parts
        )
        (manifest.verify_alone if carried else manifest.verify)(artifact)
    except StaleArtifact as fault:
        return str(fault)
    return None
