"""What each stage executes, and the versions that decide its bytes: toolchain.yaml, which DVC compares.

The standard library and PyYAML alone, so that `check_toolchain` takes a moment. `imports.py` reads the import graph,
`packages.py` knows the packages, `lockfile.py` computes, writes and checks the file, `pipeline.py` reads dvc.yaml.
"""

from __future__ import annotations

from enginewright.toolchain.lockfile import TOOLCHAIN_FILE, Toolchain, check, compute, here, read

__all__ = ["TOOLCHAIN_FILE", "Toolchain", "check", "compute", "here", "read"]
