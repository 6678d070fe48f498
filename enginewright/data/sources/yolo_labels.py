"""The source `yolo_labels`: a text file of boxes beside each image, as ultralytics lays a data set out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Optional

import yaml

from enginewright.config import Data
from enginewright.data import classes
from enginewright.data.boxes import Boxes, counted, labels_of, left_out, shown_size, together
from enginewright.data.classes import BY_FILE, BY_YAML, ClassOrder
from enginewright.data.samples import Sample, Source
from enginewright.data.sources.image_folder import IMAGES, require_folder
from enginewright.data.tracked import seen_by_dvc
from enginewright.data.walk import Kind, Survey
from enginewright.errors import DataError

LABELS = Kind("label file", (".txt",))
IMAGE_FOLDER, LABEL_FOLDER = "images", "labels"
NAMES = ("data.yaml", "dataset.yaml")  # of the file whose `names` are the classes
LINE = "class x y width height, the last four as shares of the image's width and height"
BOX = 5  # numbers of a line with a box; one with more is an outline
ROUNDING = 1e-3  # of a share that lies beyond its image
HELD_OUT = "val"  # what a folder below images/ begins with whose images are for validation


def yolo_labels(data: Data, project: Path) -> Source:
    """Images below data.root/images, and for each a file of the same name below data.root/labels that ends with .txt.

    A line is a box: its class, and its centre, width and height as shares of the image's (as it is shown by its EXIF
    orientation); a line with more numbers is an outline, of which the box around it is taken. An image without a file
    shows nothing. Classes are named by data.classes, or by `names` in data.root/data.yaml. Images in a folder whose
    name begins with val are held out for validation.

    Raises:
        DataError: with file and line of what is wrong, and where no file names the classes.
    """
    root = require_folder(data, project)
    images, labels = root / IMAGE_FOLDER, root / LABEL_FOLDER
    for folder, what in ((images, "images"), (labels, "a .txt for each")):
        if not folder.is_dir():
            raise DataError(
                f"data.root {root} has no folder {folder.name}; put {what} there, as ultralytics lays a data set out,"
                " or take another data.source"
            )
    survey, texts = Survey(IMAGES), Survey(LABELS)
    survey.look(images, seen_by_dvc(project))
    texts.look(labels, seen_by_dvc(project))
    order = _classes(root, data, project)
    found: list[tuple[str, Path, Boxes]] = []
    empty = 0
    for path in IMAGES.below(images):
        name = path.relative_to(images).as_posix()
        rows, without_area = read_boxes(labels / PurePosixPath(name).with_suffix(".txt"), len(order.names))
        found.append((name, path, rows))
        empty += without_area
    named = labels_of([rows for _, _, rows in found])

    def samples() -> Iterator[Sample]:
        for (name, path, rows), label in zip(found, named):
            yield Sample(
                name,
                label,
                partial(Path, path),
                held_out=name.startswith(HELD_OUT) and "/" in name,
                boxes=partial(_in_pixels, rows, path),
                most_pixels=data.max_pixels,
            )

    notes = list(_notes(labels, {name for name, _, _ in found}, empty))
    without = sum(not len(rows) for _, _, rows in found)
    if without:
        notes.append(f"{counted(without, 'image has', 'images have')} no box: whatever is found there is wrong")
    return Source(
        order.names,
        samples,
        str(root),
        ignored=sum(survey.ignored.values()),
        unknown=survey.unknown,
        class_order=order.how,
        notes=(*notes, *survey.notes()),
    )


def read_boxes(path: Path, count: int) -> tuple[Boxes, int]:
    """Read a label file: boxes as shares of the image, and how many without an area were left out.

    Args:
        path: of a file that may be missing, which is no box.
        count: of classes.

    Raises:
        DataError: with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return together([]), 0
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{path} cannot be read ({fault}); write lines of {LINE}") from None
    rows, empty = list[list[float]](), 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line.split(), count, f"line {number} of {path}")
        if row is None:
            empty += 1
        elif row not in rows:  # a line that stands there twice is one box
            rows.append(row)
    return together(rows), empty


def _row(words: Sequence[str], count: int, where: str) -> Optional[list[float]]:
    """None for a box without an area."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise DataError(f"{where} holds '{' '.join(words)[:40]}', not numbers; write {LINE}") from None
    if len(numbers) < BOX or (len(numbers) > BOX and len(numbers) % 2 == 0):
        raise DataError(f"{where} holds {counted(len(numbers), 'number', 'numbers')}; write {LINE}")
    kind, shares = numbers[0], numbers[1:]
    if not kind.is_integer() or not 0 <= kind < count:
        raise DataError(f"{where} has the class {words[0]}, and there are {count}, from 0 on; name them all")
    if len(numbers) > BOX:
        across, down = shares[::2], shares[1::2]
        corners = [min(across), min(down), max(across), max(down)]
    else:
        x, y, width, height = shares
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    beyond = [share for share in shares if not -ROUNDING <= share <= 1 + ROUNDING or math.isnan(share)]
    if beyond:
        raise DataError(f"{where} has {beyond[0]:g}, and shares of an image lie between 0 and 1; write {LINE}")
    low_x, low_y, high_x, high_y = corners
    if high_x <= low_x or high_y <= low_y:
        return None
    return [*corners, kind, 0.0, 0.0]


def _in_pixels(rows: Boxes, path: Path) -> Boxes:
    height, width = shown_size(path)
    found = rows.copy()
    found[:, :4] *= [width, height, width, height]
    found[:, 5] = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    return found


def _classes(root: Path, data: Data, project: Path) -> ClassOrder:
    known = classes.read_classes(data, project)
    if known:
        return ClassOrder(known, BY_FILE)
    path = next((root / name for name in NAMES if (root / name).is_file()), None)
    if path is None:
        raise DataError(
            f"nothing names the classes of {root}; write them into a file, a line each in the order of their numbers,"
            f" and set data.classes to it, or put {NAMES[0]} with `names` there"
        )
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise DataError(f"{path} is not valid YAML ({' '.join(str(fault).split())})") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[place] for place in range(len(names))]
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        raise DataError(
            f"{path} has no `names` with a name of its own for each class, from 0 on; write them there, or into a file"
            " that data.classes names"
        )
    return ClassOrder(tuple(map(str, names)), BY_YAML)


def _notes(labels: Path, images: set[str], empty: int) -> Iterator[str]:
    stems = {PurePosixPath(name).with_suffix("").as_posix() for name in images}
    texts = [path.relative_to(labels).with_suffix("").as_posix() for path in LABELS.below(labels)]
    alone = [name for name in texts if name not in stems and name != "classes"]
    if alone:
        yield f"{counted(len(alone), 'label file has', 'label files have')} no image ({alone[0]}.txt)"
    if empty:
        yield left_out(empty)
