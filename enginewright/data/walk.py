"""What lies in the folder of a source, and that DVC sees it: files of the kinds that it reads, and all others."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from enginewright.data.tracked import Seen, unseen
from enginewright.errors import DataError

# What files that lie among samples and are none end with, or are called: they are counted. A file of another kind may
# be a sample in a format that is not read, and is refused.
COMPANIONS = (
    *(".csv", ".db", ".dvc", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".py", ".rst", ".sha256", ".toml"),
    *(".tsv", ".txt", ".xml", ".yaml", ".yml", "license", "readme"),
)
MOST_NAMED = 3


@dataclass(frozen=True)
class Kind:
    """The files that a source reads."""

    name: str  # "image"
    suffixes: tuple[str, ...]  # in small letters

    @property
    def article(self) -> str:
        """The name, and its article before it."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"

    def has(self, name: str) -> bool:
        """Whether a file of this name is one; none whose name begins with a dot is."""
        return name.lower().endswith(self.suffixes) and not name.startswith(".")

    def below(self, folder: Path, deep: bool = True) -> Iterator[Path]:
        """Files of this kind below a folder: those in it in the order of their names, then those of each folder in
        it.
        """
        listing = self.listed(folder)
        for name in listing.files:
            yield folder / name
        for name in listing.folders if deep else ():
            yield from self.below(folder / name)

    def listed(self, folder: Path) -> Listing:
        """What lies in a folder. Raises DataError on a link to a folder, and on what has the name and is no file."""
        listing = Listing([], [], [], [])
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    self._sort_in(listing, Path(folder, entry.name), entry)
        except OSError as fault:
            raise DataError(
                f"{fault.filename or folder} cannot be read ({fault.strerror}); make it readable, or take it out of"
                " data.root"
            ) from None
        return listing

    def _sort_in(self, listing: Listing, path: Path, entry: os.DirEntry[str]) -> None:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{str(path)!a} has a name that is not UTF-8; rename it") from None
        is_one = self.has(entry.name)
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            mode = 0  # a link to nothing
        if stat.S_ISDIR(mode):
            if entry.is_symlink():
                raise DataError(
                    f"{path} is a link to a folder, which DVC does not follow, so a change behind it would rerun"
                    " nothing; put the folder itself there"
                )
            (listing.hidden if entry.name.startswith(".") else listing.folders).append(entry.name)
        elif is_one and not stat.S_ISREG(mode):
            what = "a link to nothing" if not mode else "no regular file"
            raise DataError(f"{path} is {what}; put {self.article} there, or remove it")
        else:
            (listing.files if is_one else listing.others).append(entry.name)


class Listing(NamedTuple):
    """What lies in a folder, each in the order of the names."""

    folders: list[str]  # hidden ones left out
    files: list[str]  # of the kind that is read
    others: list[str]
    hidden: list[str]  # folders whose names begin with a dot


@dataclass
class Survey:
    """What was found below folders."""

    kind: Kind
    found: int = 0  # of the kind
    seen_files: int = 0  # by DVC, of any kind
    ignored: Counter[str] = field(default_factory=Counter)  # what other files end with -> how many
    # of files that may be samples, in a format that is not read: what they end with -> the files
    unknown: dict[str, list[Path]] = field(default_factory=dict)

    def look(self, folder: Path, seen: Seen, deep: bool = True) -> int:
        """Count, and return how many of the kind there are. Raises DataError if one lies where DVC or the stage does
        not look.
        """
        listing, before = self.kind.listed(folder), self.found
        folders, files = seen(folder, [*listing.folders, *listing.hidden], [*listing.files, *listing.others])
        for name in listing.files:
            if name not in files:
                raise DataError(unseen(folder / name))
        self.found += len(listing.files)
        self.seen_files += len(files)
        for name in listing.others:
            self._count(folder / name)
        for name in listing.hidden:
            if name in folders and (one := next(self.kind.below(folder / name), None)):
                raise DataError(
                    f"{folder / name} is a hidden folder with {self.kind.name}s ({one.name}), which would be left out;"
                    " rename it, or remove it"
                )
        for name in listing.folders if deep else ():
            self._look_below(folder / name, seen, name in folders)
        return self.found - before

    def _count(self, path: Path) -> None:
        suffix = path.suffix.lower() or "no suffix"
        if path.name.startswith("."):
            self.ignored["names with a dot in front"] += 1
        elif path.name.lower().endswith(COMPANIONS):
            self.ignored[suffix] += 1
        else:
            self.unknown.setdefault(suffix, []).append(path)

    def _look_below(self, folder: Path, seen: Seen, visible: bool) -> None:
        if visible:
            self.look(folder, seen)
        elif next(self.kind.below(folder), None):
            raise DataError(unseen(folder))

    def notes(self) -> list[str]:
        """A sentence on the ignored files, if there are any."""
        if not self.ignored:
            return []
        most = ", ".join(f"{count} {what}" for what, count in self.ignored.most_common(MOST_NAMED))
        count = sum(self.ignored.values())
        what = (
            f"file is no {self.kind.name} by its name and was ignored"
            if count == 1
            else f"files are no {self.kind.name}s by their names and were ignored"
        )
        return [f"{count} {what} ({most})"]
