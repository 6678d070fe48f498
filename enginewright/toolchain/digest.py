"""Hashes of source: of bytes, because syntax trees differ between versions of Python; line ends do not count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def sha256(path: Path) -> str:
    """Hex digest of a source file with its line ends as in Unix."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def digest(files: Mapping[str, Path]) -> str:
    """Hex digest over names and contents; where the files lie does not count."""
    lines = "".join(f"{sha256(files[name])} {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
