"""Pictures of what engines answered: the images on which they depart most from FP32, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import ChannelOrder, Precision, Preprocessing
from enginewright.data import ImageSet
from enginewright.data.geometry import Geometry
from enginewright.data.recipes import IMAGES
from enginewright.tasks.base import AGREEMENT, Evaluation, Task
from enginewright.tasks.detection.boxes import CLASS, SCORE, Detections
from enginewright.tasks.detection.matching import of_one_class, pairs, shown

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw as Drawing

WORST = 8  # images
SIDE = 384  # pixels of the longer side of a panel, at least
GAP, LINE = 12, 18  # pixels between panels, and of a line of text
MOVED = 0.9  # a box that overlaps FP32's by less has moved
# M. Okabe and K. Ito's colours, which colour-blind readers tell apart
SAME_COLOUR, MOVED_COLOUR, ADDED_COLOUR, LOST_COLOUR = "#56B4E9", "#CC79A7", "#E69F00", "#D55E00"
TRUTH_COLOUR, INK, PAPER = "#FFFFFF", "#222222", "#FFFFFF"
LEGEND = (
    (SAME_COLOUR, "as FP32"),
    (MOVED_COLOUR, "moved"),
    (ADDED_COLOUR, "added"),
    (LOST_COLOUR, "lost (dashed)"),
)
JUDGED = (Precision.fp32, Precision.int8, Precision.int8_mixed)

Box = tuple[float, float, float, float]
Drawer = Callable[[ImageSet, Mapping[Precision, Evaluation], Preprocessing], "Optional[Picture]"]


@dataclass(frozen=True)
class Change:
    """What became of FP32's boxes in one image, those with a score that would be shown."""

    same: Detections
    moved: Detections
    added: Detections
    lost: Detections

    @classmethod
    def of(cls, found: Detections, reference: Detections) -> Change:
        """Compare an engine's detections with FP32's."""
        own, wanted = shown(found), shown(reference)
        overlapping = of_one_class(own, wanted)
        paired = pairs(overlapping)
        near = np.array([overlapping[row, column] >= MOVED for row, column in paired], bool)
        return cls(
            own[paired[near, 0]],
            own[paired[~near, 0]],
            np.delete(own, paired[:, 0], axis=0),
            np.delete(wanted, paired[:, 1], axis=0),
        )

    def says(self) -> str:
        """The changes in words."""
        parts = [(self.lost, "lost"), (self.added, "added"), (self.moved, "moved")]
        told = [f"{len(boxes)} {what}" for boxes, what in parts if len(boxes)]
        return ", ".join(told) or "nothing changed"


def draw(
    task: Task, images: ImageSet, evaluations: Mapping[Precision, Evaluation], preprocessing: Preprocessing
) -> Optional[Picture]:
    """The picture of a task's answers; None of a task that has none."""
    drawer = DRAWERS.get(task.name)
    return None if drawer is None else drawer(images, evaluations, preprocessing)


def worst_detections(
    images: ImageSet, evaluations: Mapping[Precision, Evaluation], preprocessing: Preprocessing
) -> Optional[Picture]:
    """Draw the images on which INT8's detections are least like FP32's: a row an image, a panel an engine.

    Truths are thin and white, boxes have the colours of LEGEND, a class and a score. Padding is cut off.

    Args:
        images: that were judged.
        evaluations: with the rows of task detection, FP32's first.
        preprocessing: of the images, for the order of their channels.

    Returns:
        None where the set holds no images (recipe none), or no engine but FP32 was judged.
    """
    engines = [precision for precision in JUDGED if precision in evaluations]
    if IMAGES not in images.arrays or len(engines) == 1:
        return None
    agreement = evaluations[engines[1]].rows[AGREEMENT].to_numpy()
    rows = [
        _row(images, evaluations, engines, preprocessing, int(index))
        for index in np.argsort(agreement, kind="stable")[:WORST]
    ]
    return _sheet(rows, [precision.value.upper().replace("_", " ") for precision in engines])


def _row(
    images: ImageSet,
    evaluations: Mapping[Precision, Evaluation],
    engines: Sequence[Precision],
    preprocessing: Preprocessing,
    index: int,
) -> tuple[str, list[Picture]]:
    """The caption of an image, and its panels."""
    background, scale, place = _background(images, preprocessing, index)
    fp32 = evaluations[Precision.fp32].rows.iloc[index]
    truths = fp32["truth"][:, :4] if "truth" in fp32 else np.empty((0, 4))
    name = images.names[index]
    caption, panels = f"{name}: FP32 shows {len(shown(fp32['found']))}", []
    for precision in engines:
        picture = background.copy()
        pen = _Pen(picture, images.classes, scale)
        for box in truths:
            pen.box(place(box), TRUTH_COLOUR, width=1)
        if precision is Precision.fp32:
            pen.detections(shown(fp32["found"]), place, SAME_COLOUR)
        else:
            row = evaluations[precision].rows.iloc[index]
            change = Change.of(row["found"], row["reference"])
            pen.detections(change.same, place, SAME_COLOUR)
            pen.detections(change.moved, place, MOVED_COLOUR)
            pen.detections(change.added, place, ADDED_COLOUR)
            pen.detections(change.lost, place, LOST_COLOUR, dashed=True)
            words = precision.value.upper().replace("_", " ")
            caption += f"; {words}: {change.says()}, agreement {row[AGREEMENT]:.2f}"
        panels.append(picture)
    return caption, panels


def _background(images: ImageSet, preprocessing: Preprocessing, index: int) -> tuple[Picture, float, Any]:
    """The image without padding, as RGB and large enough; how much larger; and where a box of the image lies in it."""
    from PIL import Image

    pixels = np.asarray(images.arrays[IMAGES][index : index + 1][0])
    height, width = pixels.shape[:2]
    found = images.geometries(slice(index, index + 1))
    geometry = found[0] if found else Geometry((height, width))
    corners = geometry.boxes_to_input(np.array([0, 0, geometry.size[1], geometry.size[0]]))
    left, top, right, bottom = (int(value) for value in np.clip(np.rint(corners), 0, [width, height, width, height]))
    rgb = _rgb(pixels[top:bottom, left:right], preprocessing.channels)
    longer = max(rgb.shape[:2])
    factor = float(max(1, round(SIDE / longer))) if longer < SIDE else SIDE / longer
    size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS

    def place(box: npt.NDArray[Any]) -> Box:
        x1, y1, x2, y2 = ((geometry.boxes_to_input(box) - [left, top, left, top]) * factor).tolist()
        return x1, y1, x2, y2

    return Image.fromarray(np.ascontiguousarray(rgb)).resize(size, how), factor, place


def _rgb(pixels: npt.NDArray[np.uint8], channels: ChannelOrder) -> npt.NDArray[np.uint8]:
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[:, :, 2::-1] if channels is ChannelOrder.bgr else pixels[:, :, :3]


class _Pen:
    """Draws boxes with names on one picture."""

    def __init__(self, picture: Picture, classes: Sequence[str], scale: float) -> None:
        from PIL import ImageDraw

        self._draw: Drawing = ImageDraw.Draw(picture)
        self._size, self._classes, self._font = picture.size, classes, _font(12)
        self._width = 2 if scale >= 1 else 1
        self._taken: list[Box] = []  # by labels

    def detections(self, found: Detections, place: Any, colour: str, dashed: bool = False) -> None:
        """A box each, with its class and score."""
        for row in found:
            box, kind = place(row[:4]), int(row[CLASS])
            self.box(box, colour, self._width, dashed)
            name = self._classes[kind] if kind < len(self._classes) else str(kind)
            self._label(box, f"{name} {row[SCORE]:.2f}", colour)

    def box(self, box: Box, colour: str, width: int, dashed: bool = False) -> None:
        """Four lines, whole or dashed."""
        x1, y1, x2, y2 = box
        for line in ((x1, y1, x2, y1), (x1, y2, x2, y2), (x1, y1, x1, y2), (x2, y1, x2, y2)):
            for piece in _dashes(line) if dashed else [line]:
                self._draw.line(piece, colour, width)

    def _label(self, box: Box, text: str, colour: str) -> None:
        """Above the box or below it, where no other label stands, or in it where there is no room."""
        low, top, high, bottom = self._draw.textbbox((0, 0), text, font=self._font)
        width, height = high - low + 4, bottom - top + 4
        x = min(max(box[0], 0), max(self._size[0] - width, 0))
        above = [box[1] - height * step for step in range(1, 4)]
        below = [box[3] + 1 + height * step for step in range(3)]
        room = [y for y in (*above, *below) if 0 <= y <= self._size[1] - height] or [box[1] + 1]
        y = next((y for y in room if self._is_free(x, y, width, height)), room[0])
        self._taken.append((x, y, x + width, y + height))
        self._draw.rectangle((x, y, x + width, y + height), colour)
        self._draw.text((x + 2, y + 2 - top), text, INK, font=self._font)

    def _is_free(self, x: float, y: float, width: float, height: float) -> bool:
        return all(
            x + width <= left or right <= x or y + height <= upper or lower <= y
            for left, upper, right, lower in self._taken
        )


def _dashes(line: Box, length: float = 5.0) -> Iterator[Box]:
    x1, y1, x2, y2 = line
    count = max(1, round(float(np.hypot(x2 - x1, y2 - y1)) / length))
    ends = np.linspace([x1, y1], [x2, y2], count + 1)
    for start, end in zip(ends[:-1:2].tolist(), ends[1::2].tolist()):
        yield start[0], start[1], end[0], end[1]


def _sheet(rows: Sequence[tuple[str, list[Picture]]], titles: Sequence[str]) -> Picture:
    """The rows below each other, under the names of the engines and above the legend."""
    from PIL import Image, ImageDraw

    column = max(panel.width for _, panels in rows for panel in panels) + GAP
    height = LINE + GAP + sum(LINE + max(panel.height for panel in panels) + GAP for _, panels in rows) + LINE + GAP
    sheet = Image.new("RGB", (GAP + column * len(titles), GAP + height), PAPER)
    draw, font = ImageDraw.Draw(sheet), _font(14)
    y = GAP
    for place, title in enumerate(titles):
        draw.text((GAP + place * column, y), title, INK, font=font)
    y += LINE + GAP // 2
    for caption, panels in rows:
        draw.text((GAP, y), caption, INK, font=_font(12))
        y += LINE
        for place, panel in enumerate(panels):
            sheet.paste(panel, (GAP + place * column, y))
        y += max(panel.height for panel in panels) + GAP
    x = GAP
    for colour, text in LEGEND:
        draw.rectangle((x, y + 2, x + 12, y + 14), colour)
        draw.text((x + 18, y), text, INK, font=_font(12))
        x += 30 + int(draw.textlength(text, font=_font(12)))
    return sheet


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


DRAWERS: Mapping[str, Drawer] = {"detection": worst_detections}
