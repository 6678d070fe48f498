"""What DVC sees of a folder: what it does not hash can change without a rerun, so no image may be read from there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from enginewright.errors import DataError

Seen = Callable[
    [Path, Sequence[str], Sequence[str]], "tuple[set[str], set[str]]"
]  # folder, its folders, its files -> those that DVC hashes


def seen_by_dvc(project: Path) -> Seen:
    """Return what says which entries of a folder DVC hashes, by the .dvcignore files of the repository around a
    project.

    DVC's own filter answers. Where no repository is, nothing is ignored.
    """
    start = Path(os.path.abspath(project))
    root = next((folder for folder in (start, *start.parents) if (folder / ".dvc").is_dir()), None)
    ignore = _filter(root) if root else None

    def seen(folder: Path, folders: Sequence[str], files: Sequence[str]) -> tuple[set[str], set[str]]:
        if ignore is None:
            return set(folders), set(files)
        absolute = os.path.abspath(folder)
        if ignore.is_ignored_dir(absolute):
            return set(), set()
        kept_folders, kept_files = ignore(absolute, list(folders), list(files))
        return set(kept_folders), set(kept_files)

    return seen


def _filter(root: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that DVC imports
        from dvc.fs import LocalFileSystem  # type: ignore[import-untyped]  # DVC ships no types
        from dvc.ignore import DvcIgnoreFilter  # type: ignore[import-untyped]

        return DvcIgnoreFilter(LocalFileSystem(), str(root))


def require_seen(folder: Path, files: Iterable[str], seen: Seen) -> None:
    """Raise DataError naming the first of these files of a folder that DVC does not hash."""
    names = sorted(files)
    hidden = [name for name in names if name not in seen(folder, [], names)[1]]
    if hidden:
        raise DataError(unseen(folder / hidden[0]))


def unseen(path: Path) -> str:
    """The sentence about a path that DVC ignores."""
    why = "a .dvcignore (or a repository inside) excludes it"
    return f"DVC does not see {path}, as {why}, so a change of it would rerun nothing; take the pattern out, or move it"
