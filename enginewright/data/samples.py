"""What a source of images is: samples in a fixed order, and what they are labelled with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from enginewright.data.preprocessing import MOST_PIXELS, Pixels
from enginewright.feeds import Array

if TYPE_CHECKING:
    from PIL.Image import Image


UNLABELLED = -1
# an image, or what each input is fed, by its name and without the batch axis
Loaded = Union[Path, "Image", Pixels, Mapping[str, Array]]


class Sample(NamedTuple):
    """One image of a source. `load` is called only for images that are needed, so skipping costs nothing."""

    name: str
    label: int  # index into the source's classes, or UNLABELLED
    load: Callable[[], Loaded]
    held_out: bool = False  # the source itself sets this image apart for validation
    # of an image uint8 [H, W] of its size: an index into the source's classes, or IGNORED, for each pixel
    target: Optional[Callable[[], Array]] = None
    # float64 [m, 7]: x1, y1, x2, y2 in pixels of the image, class, area, and 1 for a crowd; m may be 0
    boxes: Optional[Callable[[], Array]] = None
    most_pixels: int = MOST_PIXELS  # an image file with more is refused before it is decoded


@dataclass(frozen=True)
class Source:
    """Images in a fixed order; `samples` starts from the beginning at each call."""

    classes: tuple[str, ...]  # empty when unlabelled
    samples: Callable[[], Iterator[Sample]]
    where: str  # for messages
    ignored: int = 0  # files that lie among the images and are none
    # files that may be samples, in a format that is not read: what they end with -> the files
    unknown: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    class_order: str = ""  # what says that the classes are in the order of the model's outputs (`classes.ClassOrder`)
    notes: tuple[str, ...] = ()  # sentences about what was left out
