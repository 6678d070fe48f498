"""An interpreter without some packages, as on a machine that has installed fewer extras."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from support.project import ROOT

# A finder, because a None in sys.modules would count as "it is there" for packages that look there.
ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run_without(packages: Iterable[str], program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in `folder`, in a fresh interpreter that finds this checkout and none of the packages."""
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", ABSENT.format(packages=tuple(packages)) + program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
