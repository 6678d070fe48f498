"""The wheel of this checkout, installed in a folder, with the packages of this environment around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.project import checkout


def install(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout and unpack it into `folder`/site, which is returned."""
    source, site = folder / "source", folder / "site"
    source.mkdir(parents=True)
    checkout(source)  # setuptools leaves build/ behind
    build = ["wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    pip(*build)
    (wheel,) = folder.glob("*.whl")
    pip("install", "--target", str(site), str(wheel))
    return site


def pip(command: str, *arguments: str) -> None:
    """Run pip without dependencies: what they would be is this environment's."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
