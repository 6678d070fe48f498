"""What the sources of boxes share: rows of truths, the class that stands for an image, and the size that it is shown
in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from enginewright.data.samples import UNLABELLED
from enginewright.errors import DataError

COLUMNS = 7  # x1, y1, x2, y2 in pixels of the image, class, area in square pixels, and 1 for a crowd
CLASS = 4
ORIENTATION = 0x0112  # the EXIF tag
TURNED = (5, 6, 7, 8)  # orientations that are shown with height and width swapped

Boxes = npt.NDArray[np.float64]  # [m, COLUMNS]


def labels_of(boxes: Sequence[Boxes]) -> list[int]:
    """The class that stands for each image where images are selected by class: its most frequent one, of equally
    frequent ones that which is rarest in the set, so that rare classes are seen; UNLABELLED without a box.
    """
    counts = [Counter(rows[:, CLASS].astype(np.int64).tolist()) for rows in boxes]
    total: Counter[int] = Counter()
    for count in counts:
        total.update(count)

    def stands_for(count: Counter[int]) -> int:
        return min(count, key=lambda kind: (-count[kind], total[kind], kind)) if count else UNLABELLED

    return list(map(stands_for, counts))


def shown_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file as it is shown, after its EXIF orientation; only its header is read.

    Raises:
        DataError: it cannot be opened.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            return (width, height) if image.getexif().get(ORIENTATION) in TURNED else (height, width)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as fault:
        raise DataError(f"{path} cannot be read as an image ({fault}); replace it, or leave it out") from None


def together(rows: Iterable[Sequence[float]]) -> Boxes:
    """Rows of COLUMNS numbers as an array, [m, COLUMNS]; m may be 0."""
    return np.array(list(rows), np.float64).reshape(-1, COLUMNS)


def left_out(count: int) -> str:
    """A sentence on boxes without an area."""
    return f"{counted(count, 'box has', 'boxes have')} no area and {'is' if count == 1 else 'are'} left out"


def counted(count: int, one: str, many: str) -> str:
    """A number and its noun."""
    return f"1 {one}" if count == 1 else f"{count} {many}"
