"""The source `image_folder`: which files of a folder are images, of what classes, and that DVC sees every one."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from enginewright.config import Data
from enginewright.data.samples import UNLABELLED, Sample, Source
from enginewright.data.tracked import Seen, seen_by_dvc, unseen
from enginewright.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MOST_NAMED = 3


def image_folder(data: Data, project: Path) -> Source:
    """A folder of image files. With sub-folders, their sorted names are the classes (as torchvision's ImageFolder);
    without, it is unlabelled.

    A class folder without images keeps its index, and is reported. Files that are no images by their suffix, or whose
    names begin with a dot, are ignored and counted.

    Raises:
        DataError: naming what DVC would not see or follow, what cannot be read, and images beside sub-folders of
            images.
    """
    root = project / data.root
    if not root.is_dir():
        raise DataError(
            f"data.root {root} is no folder; give one that holds images, or a sub-folder of images for each class"
        )
    survey, seen = _Survey(), seen_by_dvc(project)
    loose, files = survey.look(root, seen, deep=False), {}
    for name in _listed(root).folders:
        images_before, files_before = survey.images, survey.seen_files
        survey.look(root / name, seen)
        files[name] = (survey.images - images_before, survey.seen_files - files_before)
    labelled = any(images for images, _ in files.values())
    if labelled and loose:
        first, beside = (
            next(_image_files(root, deep=False)),
            next(name for name, (images, _) in files.items() if images),
        )
        raise DataError(
            f"{root} holds images beside sub-folders of images ({first.name} beside {beside}/), so labels are unclear;"
            " move them into a sub-folder"
        )
    classes = _classes(root, files, seen) if labelled else ()

    def samples() -> Iterator[Sample]:
        for label, name in enumerate(classes):
            for path in _image_files(root / name):
                yield Sample(path.relative_to(root).as_posix(), label, partial(Path, path))
        if not classes:
            for path in _image_files(root):
                yield Sample(path.relative_to(root).as_posix(), UNLABELLED, partial(Path, path))

    empty = [name for name in classes if not files[name][0]]
    notes = [f"the class {name!r} has no image and keeps its index {classes.index(name)}" for name in empty]
    return Source(classes, samples, str(root), ignored=sum(survey.ignored.values()), notes=(*notes, *survey.notes()))


def _classes(root: Path, files: dict[str, tuple[int, int]], seen: Seen) -> tuple[str, ...]:
    """The folders that are classes: those that DVC sees. One without a file it cannot see, and its coming or going
    would move the labels of others.
    """
    kept = seen(root, list(files), [])[0]
    for name, (_, visible) in files.items():
        if name in kept and not visible:
            raise DataError(
                f"the class folder {root / name} is empty, and DVC sees no empty folders, so labels could move without"
                " a rerun; put a file such as .gitkeep into it to keep its index, or remove it"
            )
    return tuple(name for name in files if name in kept)


class _Listing(NamedTuple):
    folders: list[str]  # in the order of their names, hidden ones left out
    images: list[str]
    others: list[str]  # files that are no images by their names
    hidden: list[str]  # folders whose names begin with a dot


def _listed(folder: Path) -> _Listing:
    """What lies in a folder. Raises DataError on a link to a folder, and on what looks like an image and is no file."""
    listing = _Listing([], [], [], [])
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                _sort_in(listing, Path(folder, entry.name), entry)
    except OSError as fault:
        raise DataError(
            f"{fault.filename or folder} cannot be read ({fault.strerror}); make it readable, or take it out of"
            " data.root"
        ) from None
    return listing


def _sort_in(listing: _Listing, path: Path, entry: os.DirEntry[str]) -> None:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{str(path)!a} has a name that is not UTF-8; rename it") from None
    is_image = entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".")
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        mode = 0  # a link to nothing
    if stat.S_ISDIR(mode):
        if entry.is_symlink():
            raise DataError(
                f"{path} is a link to a folder, which DVC does not follow, so a change behind it would rerun nothing;"
                " put the folder itself there"
            )
        (listing.hidden if entry.name.startswith(".") else listing.folders).append(entry.name)
    elif is_image and not stat.S_ISREG(mode):
        raise DataError(
            f"{path} is {'a link to nothing' if not mode else 'no regular file'}; put an image there, or remove it"
        )
    else:
        (listing.images if is_image else listing.others).append(entry.name)


@dataclass
class _Survey:
    """What was found below folders, beside the images themselves."""

    images: int = 0
    seen_files: int = 0  # by DVC, images or not
    ignored: Counter[str] = field(default_factory=Counter)  # what files that are no images end with -> how many

    def look(self, folder: Path, seen: Seen, deep: bool = True) -> int:
        """Count, and return how many images there are. Raises DataError if an image lies where DVC or the stage does
        not look.
        """
        listing, before = _listed(folder), self.images
        folders, files = seen(folder, [*listing.folders, *listing.hidden], [*listing.images, *listing.others])
        for name in listing.images:
            if name not in files:
                raise DataError(unseen(folder / name))
        self.images += len(listing.images)
        self.seen_files += len(files)
        for name in listing.others:
            self.ignored[
                "names with a dot in front" if name.startswith(".") else Path(name).suffix.lower() or "no suffix"
            ] += 1
        for name in listing.hidden:
            if name in folders and (image := next(_image_files(folder / name), None)):
                raise DataError(
                    f"{folder / name} is a hidden folder with images ({image.name}), which would be left out; rename"
                    " it, or remove it"
                )
        for name in listing.folders if deep else ():
            self._look_below(folder / name, seen, name in folders)
        return self.images - before

    def _look_below(self, folder: Path, seen: Seen, visible: bool) -> None:
        if visible:
            self.look(folder, seen)
        elif next(_image_files(folder), None):
            raise DataError(unseen(folder))

    def notes(self) -> list[str]:
        """A sentence on the ignored files, if there are any."""
        if not self.ignored:
            return []
        most = ", ".join(f"{count} {what}" for what, count in self.ignored.most_common(MOST_NAMED))
        count = sum(self.ignored.values())
        what = (
            "file is no image by its name and was ignored"
            if count == 1
            else "files are no images by their names and were ignored"
        )
        return [f"{count} {what} ({most})"]


def _image_files(folder: Path, deep: bool = True) -> Iterator[Path]:
    """Image files below a folder: those in it in the order of their names, then those of each folder in it."""
    listing = _listed(folder)
    for name in listing.images:
        yield folder / name
    for name in listing.folders if deep else ():
        yield from _image_files(folder / name)
