"""Scenes with known boxes: digits of MNIST, in colours, laid over real photographs of scikit-image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.architectures.preparation import package_file
from enginewright.data.sources.digits import mnist

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "brick.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
)
DIGITS = tuple("0123456789")
TRAIN_DIGITS = 3500  # of 5,000; scenes to calibrate and to validate take the others
INK = 90  # of 255: where a digit begins
TRIES = 20  # for a place that is free

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]  # [k, 5]: x1, y1, x2, y2, class


@dataclass(frozen=True)
class Look:
    """What scenes look like."""

    height: int = 480
    width: int = 640
    least: int = 28  # the side of a digit's tile in pixels
    most: int = 150
    count: int = 8  # digits at most


class Scenes:
    """A maker of scenes; the same seed makes the same ones."""

    def __init__(self, seed: int, train: bool, look: Look = Look()) -> None:
        """`train`: of the digits that a detector is trained on, or of the others."""
        from PIL import Image

        self._random, self._look = np.random.default_rng(seed), look
        pixels, classes = mnist("digits")
        order = np.random.default_rng(0).permutation(len(pixels))
        chosen = order[:TRAIN_DIGITS] if train else order[TRAIN_DIGITS:]
        self._pixels, self._classes = pixels[chosen], classes[chosen]
        names = [package_file("skimage", f"data/{name}") for name in PHOTOGRAPHS]
        self._photographs = [np.asarray(Image.open(name).convert("RGB")) for name in names]

    def next(self) -> tuple[Pixels, Boxes]:
        """RGB [height, width, 3], and what is in it."""
        scene, boxes = self._background(), list[list[float]]()
        for _ in range(int(self._random.integers(1, self._look.count + 1))):
            self._add_digit(scene, boxes)
        return scene, np.asarray(boxes, np.float64).reshape(-1, 5)

    def _background(self) -> Pixels:
        from PIL import Image

        photograph = self._photographs[int(self._random.integers(len(self._photographs)))]
        side = int(self._random.integers(min(photograph.shape[:2]) // 2, min(photograph.shape[:2])))
        top, left = (int(self._random.integers(0, size - side + 1)) for size in photograph.shape[:2])
        part = Image.fromarray(photograph[top : top + side, left : left + side])
        resized = part.resize((self._look.width, self._look.height), Image.Resampling.BILINEAR)
        return np.array(resized, np.uint8)

    def _add_digit(self, scene: Pixels, boxes: list[list[float]]) -> None:
        from PIL import Image

        index, side = int(self._random.integers(len(self._pixels))), self._side()
        tile = np.asarray(Image.fromarray(self._pixels[index]).resize((side, side), Image.Resampling.BICUBIC))
        rows, columns = np.nonzero(tile > INK)
        tile = tile[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        for _ in range(TRIES):
            top, left = (int(self._random.integers(0, size - own)) for size, own in zip(scene.shape, tile.shape))
            box = [left, top, left + tile.shape[1], top + tile.shape[0]]
            if not any(_meet(box, other) for other in boxes):
                break
        else:
            return
        cover = np.clip((tile.astype(np.float32) - INK / 2) / (255 - INK), 0, 1)[..., None]
        place = scene[top : box[3], left : box[2]]
        place[:] = (place * (1 - cover) + self._colour(place) * cover).astype(np.uint8)
        boxes.append([*box, int(self._classes[index])])

    def _side(self) -> int:
        """As many small digits as large ones: its logarithm is even."""
        least, most = np.log(self._look.least), np.log(self._look.most)
        return int(np.exp(self._random.uniform(least, most)))

    def _colour(self, place: Pixels) -> npt.NDArray[np.float32]:
        """One that differs from what is there."""
        there = place.reshape(-1, 3).mean(axis=0)
        for _ in range(TRIES):
            colour = self._random.integers(0, 256, 3)
            if np.abs(colour - there).max() > 80:
                break
        return np.asarray(colour, np.float32)


def _meet(box: list[int], other: list[float]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def write(folder: Path, count: int, seed: int = 7) -> None:
    """Write images/*.png and annotations.json, as COCO has it."""
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    scenes = Scenes(seed, train=False)
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(DIGITS)],
    }
    for number in range(count):
        pixels, boxes = scenes.next()
        name = f"{number:04}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        height, width = pixels.shape[:2]
        content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        for x1, y1, x2, y2, kind in boxes.tolist():
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    (folder / "annotations.json").write_text(json.dumps(content))
