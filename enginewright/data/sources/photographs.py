"""The source `photographs`: crops of the pictures inside two packages."""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from enginewright.config import Data
from enginewright.data import pins
from enginewright.data.samples import UNLABELLED, Sample, Source
from enginewright.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

CROPS_PER_PHOTOGRAPH = 64
# Package, folder in it, photographs. No two show the same scene (of the stereo pair only the left one).
PHOTOGRAPHS = {
    ("skimage", "data"): (
        *(
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "clock_motion.png",
            "coffee.png",
            "coins.png",
            "grass.png",
        ),
        *(
            "gravel.png",
            "hubble_deep_field.jpg",
            "ihc.png",
            "moon.png",
            "motorcycle_left.png",
            "retina.jpg",
            "rocket.jpg",
        ),
    ),
    ("sklearn", "datasets/images"): ("china.jpg", "flower.jpg"),
}
# For validation: things, textures and instrument pictures in both halves.
HELD_OUT_PHOTOGRAPHS = {
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "flower.jpg",
    "gravel.png",
    "ihc.png",
    "motorcycle_left.png",
}


def photographs(data: Data, project: Path) -> Source:
    """Square crops of the real photographs that scikit-image and scikit-learn ship, unlabelled; `data.root` holds
    nothing but its README.

    Each photograph gives CROPS_PER_PHOTOGRAPH crops, of 0.35 to 1 times its shorter side, at places fixed by its name.
    HELD_OUT_PHOTOGRAPHS are for validation alone: no scene is in two sets, else calibration would be judged on what it
        has seen.
    """
    del data, project
    files = sorted(
        (file for (package, folder), names in PHOTOGRAPHS.items() for file in _package_files(package, folder, names)),
        key=lambda file: file.name,
    )

    def samples() -> Iterator[Sample]:
        for file in files:
            for crop in range(CROPS_PER_PHOTOGRAPH):
                yield Sample(
                    f"{file.name}#{crop:02d}",
                    UNLABELLED,
                    partial(_photograph_crop, file, crop),
                    file.name in HELD_OUT_PHOTOGRAPHS,
                )

    return Source((), samples, "the packages scikit-image and scikit-learn")


def _package_files(package: str, folder: str, names: tuple[str, ...]) -> list[Path]:
    spec = importlib.util.find_spec(package)  # not imported: that would cost a second, and needs packages of its own
    found = [
        Path(root) / folder / name for root in (spec.submodule_search_locations or [] if spec else []) for name in names
    ]
    if not found or not all(file.exists() for file in found):
        raise DataError(
            f"data.source photographs needs the pictures inside the package {package}: pip install"
            " 'enginewright[photographs]'"
        )
    for file in found:
        pins.require(str(file), file.read_bytes(), pins.PHOTOGRAPHS.get(file.name, ""))
    return found


@lru_cache(maxsize=1)  # crops of one photograph follow each other
def _photograph(file: Path) -> Image:
    from PIL import Image as pil  # noqa: N813

    with pil.open(file) as image:
        return image.copy()


def _photograph_crop(file: Path, crop: int) -> Image:
    digest = hashlib.sha256(f"{file.name}#{crop}".encode()).digest()
    scale, left, top = (
        value / 2**32 for value in struct.unpack(">3I", digest[:12])
    )  # no generator: the same on every version of numpy
    image = _photograph(file)
    side = int(min(image.size) * (0.35 + 0.65 * scale))
    x, y = int(left * (image.width - side + 1)), int(top * (image.height - side + 1))
    return image.crop((x, y, x + side, y + side))
