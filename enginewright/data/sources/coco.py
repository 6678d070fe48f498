"""The source `coco`: a folder of images, and boxes in COCO's JSON of instances."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional

from enginewright.config import Data
from enginewright.data import classes
from enginewright.data.boxes import Boxes, counted, labels_of, left_out, shown_size, together
from enginewright.data.classes import BY_ID, ClassOrder
from enginewright.data.samples import Sample, Source
from enginewright.data.sources.image_folder import IMAGES, require_folder
from enginewright.data.tracked import seen_by_dvc
from enginewright.data.walk import MOST_NAMED, Survey
from enginewright.errors import DataError, nearest

FORM = "COCO's instances, an object with the lists images, annotations and categories"
SIDES = 4  # numbers of a bbox: x, y, width, height


@dataclass
class Listed:
    """An image of the JSON."""

    name: str  # below data.root
    size: Optional[tuple[int, int]]  # height and width, where it says so
    rows: list[list[float]] = field(default_factory=list)


@dataclass
class Annotations:
    """What the JSON says of each image."""

    images: list[Listed]
    order: ClassOrder
    empty: int = 0  # boxes without an area, which are left out


def coco(data: Data, project: Path) -> Source:
    """Images with boxes, as the JSON of data.labels lists them; an image without an annotation shows nothing.

    Classes are the categories in the order of their ids, as models trained on COCO have them, or that of data.classes.
    Boxes are taken as they are, also where one reaches beyond its image; those without an area are left out. Images
    are shown by their EXIF orientation, and the JSON must have their height and width so.

    Raises:
        DataError: naming what is wrong with the JSON, and files that it lists and the folder does not hold.
    """
    root = require_folder(data, project)
    if data.labels_file is None:
        raise DataError(f"data.source coco needs data.labels; set it to the JSON of boxes ({FORM})")
    path = project / data.labels_file
    survey = Survey(IMAGES)
    survey.look(root, seen_by_dvc(project))
    found = _Reader(path, classes.read_classes(data, project), data).read()
    lying = {file.relative_to(root).as_posix() for file in IMAGES.below(root)}
    missing = [image.name for image in found.images if image.name not in lying]
    if missing:
        files = "1 file that is" if len(missing) == 1 else f"{len(missing)} files that are"
        raise DataError(
            f"data.labels {path} lists {files} no image in {root}, such as"
            f" {missing[0]}{nearest(missing[0], sorted(lying))}; set data.root to the folder that file_name begins in"
        )
    boxes = [together(image.rows) for image in found.images]
    labels = labels_of(boxes)

    def samples() -> Iterator[Sample]:
        for image, rows, label in zip(found.images, boxes, labels):
            file = root / image.name
            yield Sample(
                image.name,
                label,
                partial(Path, file),
                boxes=partial(_checked, rows, image, file),
                most_pixels=data.max_pixels,
            )

    return Source(
        found.order.names,
        samples,
        str(root),
        ignored=sum(survey.ignored.values()),
        unknown=survey.unknown,
        class_order=found.order.how,
        notes=(*_notes(found, lying), *found.order.notes, *survey.notes()),
    )


def _notes(found: Annotations, lying: set[str]) -> Iterator[str]:
    unlisted = sorted(lying - {image.name for image in found.images})
    if unlisted:
        shown = ", ".join(unlisted[:MOST_NAMED]) + (", ..." if len(unlisted) > MOST_NAMED else "")
        are = "image is" if len(unlisted) == 1 else "images are"
        yield f"{len(unlisted)} {are} not in data.labels and left out ({shown})"
    if found.empty:
        yield left_out(found.empty)
    without = sum(not image.rows for image in found.images)
    if without:
        yield f"{counted(without, 'image has', 'images have')} no box: whatever is found there is wrong"


def _checked(rows: Boxes, image: Listed, file: Path) -> Boxes:
    """The boxes, if the image is of the size that the JSON says."""
    if image.size is not None and (size := shown_size(file)) != image.size:
        raise DataError(
            f"{file} is {size[0]} x {size[1]} pixels (height x width, as its EXIF orientation shows it), and"
            f" data.labels says {image.size[0]} x {image.size[1]}, so its boxes lie elsewhere; correct one of them"
        )
    return rows


class _Reader:
    """Reads one JSON, and names the entry that is wrong."""

    def __init__(self, path: Path, known: Sequence[str], data: Data) -> None:
        self._path, self._known, self._data = path, known, data

    def read(self) -> Annotations:
        content = self._loaded()
        order, index = self._classes(self._list(content, "categories"))
        images = self._images(self._list(content, "images"))
        found = Annotations(list(images.values()), order)
        for number, entry in enumerate(self._list(content, "annotations")):
            where = f"annotation {entry.get('id', number)}"
            image = images.get(self._id(entry, "image_id", where))
            if image is None:
                raise self._wrong(f"{where} is of image {entry['image_id']}, which is not in its images; remove it")
            kind = index.get(self._id(entry, "category_id", where))
            if kind is None:
                raise self._wrong(f"{where} is of category {entry['category_id']}, which is not in its categories")
            row = self._row(entry, kind, f"{where}, of {image.name},")
            if row is None:
                found.empty += 1
            else:
                image.rows.append(row)
        return found

    def _loaded(self) -> Mapping[str, Any]:
        try:
            content = json.loads(self._path.read_bytes(), object_hook=_without_masks)
        except OSError as fault:
            raise DataError(f"data.labels {self._path} cannot be read ({fault.strerror}); give {FORM}") from None
        except (UnicodeDecodeError, ValueError) as fault:
            raise DataError(f"data.labels {self._path} is not JSON ({fault}); give {FORM}") from None
        if not isinstance(content, dict):
            raise DataError(f"data.labels {self._path} holds no object; give {FORM}")
        return content

    def _list(self, content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self._wrong(f"{key} is not a list of objects; give {FORM}")
        if not entries and key != "annotations":
            raise self._wrong(f"{key} is empty; give {FORM}")
        return entries

    def _classes(self, entries: Sequence[Mapping[str, Any]]) -> tuple[ClassOrder, dict[int, int]]:
        named: dict[int, str] = {}
        for number, entry in enumerate(entries):
            which = self._id(entry, "id", f"category {number}")
            name = entry.get("name")
            if not isinstance(name, str) or not name.strip():
                raise self._wrong(f"category {which} has no name; give it one")
            if which in named or name.strip() in named.values():
                raise self._wrong(f"category {which} ('{name}') is there twice; tell them apart")
            named[which] = name.strip()
        ids = sorted(named)
        if self._known:
            order = classes.in_order([named[which] for which in ids], self._data, self._known, "the category")
        else:
            order = ClassOrder(tuple(named[which] for which in ids), BY_ID)
        place = {name: index for index, name in enumerate(order.names)}
        return order, {which: place[named[which]] for which in ids}

    def _images(self, entries: Sequence[Mapping[str, Any]]) -> dict[int, Listed]:
        found: dict[int, Listed] = {}
        files: set[str] = set()
        for number, entry in enumerate(entries):
            which, name = self._id(entry, "id", f"image {number}"), entry.get("file_name")
            if not isinstance(name, str) or not name:
                raise self._wrong(f"image {which} has no file_name; give it one, relative to data.root")
            if which in found or name in files:
                what = f"id {which}" if which in found else f"file_name {name}"
                raise self._wrong(f"two images have the {what}; give each its own")
            size = (entry.get("height"), entry.get("width"))
            whole = all(isinstance(side, int) and side > 0 for side in size)
            found[which] = Listed(name, (size[0], size[1]) if whole else None)  # type: ignore[arg-type]
            files.add(name)
        return found

    def _row(self, entry: Mapping[str, Any], kind: int, where: str) -> Optional[list[float]]:
        """None for a box without an area."""
        bbox, remedy = entry.get("bbox"), "give x, y, width and height in pixels"
        if not isinstance(bbox, list) or len(bbox) != SIDES or not all(map(_is_number, bbox)):
            raise self._wrong(f"{where} has the bbox {bbox}; {remedy}")
        x, y, width, height = map(float, bbox)
        if width < 0 or height < 0:
            raise self._wrong(f"{where} has the bbox {bbox}, whose width or height is negative; {remedy}")
        if not width or not height:
            return None
        area, crowd = entry.get("area", width * height), entry.get("iscrowd", 0)
        if not _is_number(area) or area < 0:
            raise self._wrong(f"{where} has the area {area!r}; give square pixels, or leave it out")
        if crowd not in (0, 1):
            raise self._wrong(f"{where} has the iscrowd {crowd!r}; give 0 or 1")
        return [x, y, x + width, y + height, kind, float(area), float(crowd)]

    def _id(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        value = entry.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(f"{where} has the {key} {value!r}; give it a whole number")
        return value

    def _wrong(self, what: str) -> DataError:
        return DataError(f"data.labels {self._path}: {what}")


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are most of the file, and nobody asks for them here."""
    entry.pop("segmentation", None)
    return entry


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
