"""The source `image_folder`: which files of a folder are images, of what classes, and that DVC sees every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from enginewright.config import Data
from enginewright.data import classes
from enginewright.data.classes import ClassOrder
from enginewright.data.labels import read_labels
from enginewright.data.samples import UNLABELLED, Sample, Source
from enginewright.data.tracked import Seen, seen_by_dvc
from enginewright.data.walk import MOST_NAMED, Kind, Survey
from enginewright.errors import DataError, nearest

IMAGES = Kind("image", (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


def image_folder(data: Data, project: Path) -> Source:
    """A folder of image files. Their classes are sub-folders, or stand in the file data.labels; without both it is
    unlabelled.

    Classes are in the order of data.classes; without that file in the order of their names (as torchvision's
    ImageFolder), and a class folder without images keeps its index. Both are reported. Files that are no images by
    their suffix, or whose names begin with a dot, are ignored and counted; those that may be images in a format that is
    not opened are refused with what cannot be decoded, when all is read.

    Raises:
        DataError: naming what DVC would not see or follow, what cannot be read, and images beside sub-folders of
            images.
    """
    root = require_folder(data, project, ", or a sub-folder of images for each class")
    known = classes.read_classes(data, project)
    if data.labels_file is not None:
        return _of_file(root, data, project, known)
    return _of_folders(root, data, project, known)


def require_folder(data: Data, project: Path, more: str = "") -> Path:
    """The folder data.root. Raises DataError if it is none."""
    root = project / data.root
    if not root.is_dir():
        raise DataError(f"data.root {root} is no folder; give one that holds images{more}")
    return root


def _of_folders(root: Path, data: Data, project: Path, known: Sequence[str]) -> Source:
    survey, seen = Survey(IMAGES), seen_by_dvc(project)
    loose, files = survey.look(root, seen, deep=False), {}
    for name in IMAGES.listed(root).folders:
        images_before, files_before = survey.found, survey.seen_files
        survey.look(root / name, seen)
        files[name] = (survey.found - images_before, survey.seen_files - files_before)
    labelled = any(images for images, _ in files.values())
    if labelled and loose:
        first, beside = (
            next(IMAGES.below(root, deep=False)),
            next(name for name, (images, _) in files.items() if images),
        )
        raise DataError(
            f"{root} holds images beside sub-folders of images ({first.name} beside {beside}/), so labels are unclear;"
            " move them into a sub-folder, or name classes in data.labels"
        )
    folders = _classes(root, files, seen, bool(known)) if labelled else ()
    order = classes.in_order(folders, data, known, "the folder")
    index = {name: place for place, name in enumerate(order.names)}

    def samples() -> Iterator[Sample]:
        for name in folders:
            for path in IMAGES.below(root / name):
                yield _sample(path.relative_to(root).as_posix(), index[name], path, data)
        if not labelled:
            for path in IMAGES.below(root):
                yield _sample(path.relative_to(root).as_posix(), UNLABELLED, path, data)

    empty = [name for name in folders if not files[name][0]]
    notes = [f"the class {name!r} has no image and keeps its index {index[name]}" for name in empty]
    notes += classes.without_samples(known, folders, "folder") if labelled else []
    return _source(root, samples, survey, order, notes)


def _of_file(root: Path, data: Data, project: Path, known: Sequence[str]) -> Source:
    assert data.labels_file is not None
    survey = Survey(IMAGES)
    survey.look(root, seen_by_dvc(project))
    labels, lying = read_labels(project / data.labels_file), set()
    order = classes.in_order(list(dict.fromkeys(labels.values())), data, known, "the class")
    index = {name: place for place, name in enumerate(order.names)}
    left_out = []
    for path in IMAGES.below(root):
        name = path.relative_to(root).as_posix()
        lying.add(name)
        if name not in labels:
            left_out.append(name)
    missing = [name for name in labels if name not in lying]
    if missing:
        files = "1 file that is" if len(missing) == 1 else f"{len(missing)} files that are"
        raise DataError(
            f"data.labels {data.labels_file} names {files} no image in {root}, such as"
            f" {missing[0]}{nearest(missing[0], sorted(lying))}; name files relative to data.root"
        )

    def samples() -> Iterator[Sample]:
        for path in IMAGES.below(root):
            name = path.relative_to(root).as_posix()
            if name in labels:
                yield _sample(name, index[labels[name]], path, data)

    notes = []
    if left_out:
        shown = ", ".join(left_out[:MOST_NAMED]) + (", ..." if len(left_out) > MOST_NAMED else "")
        are = "image is" if len(left_out) == 1 else "images are"
        notes.append(f"{len(left_out)} {are} not in data.labels and left out ({shown})")
    notes += classes.without_samples(known, set(labels.values()), "image")
    return _source(root, samples, survey, order, notes)


def _sample(name: str, label: int, path: Path, data: Data) -> Sample:
    return Sample(name, label, partial(Path, path), most_pixels=data.max_pixels)


def _source(
    root: Path, samples: Callable[[], Iterator[Sample]], survey: Survey, order: ClassOrder, notes: Sequence[str]
) -> Source:
    return Source(
        order.names,
        samples,
        str(root),
        ignored=sum(survey.ignored.values()),
        notes=(*notes, *order.notes, *survey.notes()),
        unknown=survey.unknown,
        class_order=order.how,
    )


def _classes(root: Path, files: Mapping[str, tuple[int, int]], seen: Seen, stated: bool) -> tuple[str, ...]:
    """The folders that are classes: those that DVC sees. One without a file it cannot see, and its coming or going
    would move the labels of others, unless their order is `stated`.
    """
    kept = seen(root, list(files), [])[0]
    for name, (_, visible) in files.items():
        if name in kept and not visible and not stated:
            raise DataError(
                f"the class folder {root / name} is empty, and DVC sees no empty folders, so labels could move without"
                " a rerun; put a file such as .gitkeep into it to keep its index, or remove it"
            )
    return tuple(name for name, (_, visible) in files.items() if name in kept and visible)
