"""Where the library's own conf/ and pipeline lie: inside the wheel, or in its checkout."""

from __future__ import annotations

from pathlib import Path

import enginewright

PACKAGE = Path(enginewright.__file__).parent


def library_files() -> Path:
    """The folder that holds dvc.yaml and what else a project begins with: inside the wheel, or the library's
    checkout.
    """
    return PACKAGE / "project" if (PACKAGE / "project").is_dir() else PACKAGE.parent


def library_conf() -> Path:
    """The folder of `enginewright.conf`: inside the wheel, or beside the package in a checkout."""
    return PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
