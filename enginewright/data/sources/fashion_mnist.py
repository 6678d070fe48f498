"""The source `fashion_mnist`: four IDX files."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from enginewright.config import Data
from enginewright.data import pins, tracked
from enginewright.data.preprocessing import Pixels
from enginewright.data.samples import Sample, Source
from enginewright.errors import DataError

# where Debian's dataset-fashion-mnist puts its four files
PACKAGE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
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


def fashion_mnist(data: Data, project: Path) -> Source:
    """Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 60,000 images, and a test set of 10,000 that is held out for
    validation.

    Its four IDX files are looked for in `data.root`, then where Debian's and Ubuntu's package puts them.
    """
    root = project / data.root
    folder = next((f for f in (root, PACKAGE) if (f / "train-images-idx3-ubyte.gz").exists()), None)
    if folder is None:
        raise DataError(
            f"Fashion-MNIST is neither in {root} nor in {PACKAGE}; run `apt-get install"
            f" dataset-fashion-mnist`, or put its IDX files into {root}"
        )
    if folder == PACKAGE:  # of which DVC sees nothing
        for name, digest in pins.FASHION_MNIST.items():
            pins.require(f"{folder / name}.gz", _unpacked(folder / f"{name}.gz"), digest)
    else:
        tracked.require_seen(folder, [f"{name}.gz" for name in pins.FASHION_MNIST], tracked.seen_by_dvc(project))

    def samples() -> Iterator[Sample]:
        for part, held_out in (("train", False), ("t10k", True)):
            images = _idx_rows(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
            labels = _idx_rows(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
            for index, (pixels, label) in enumerate(zip(images, labels)):
                yield Sample(f"{part}/{index:05d}", int(label), partial(np.asarray, pixels), held_out)

    return Source(CLASSES, samples, str(folder))


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
