"""What OpenCV makes of small images, and how ultralytics and YOLOX use it: opencv.npz beside this file.

`python -m support.opencv` in tests/ writes it anew, with opencv-python-headless installed. The rules are written here
once more, from what those projects do, so that the recipes are held against OpenCV and not against themselves.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
FILE = Path(__file__).with_suffix(".npz")
SHAPES = {  # name -> height and width of an image, and of what it becomes
    "smaller": ((31, 43), (16, 20)),
    "larger": ((7, 9), (16, 16)),
    "half": ((24, 32), (12, 16)),
    "upright": ((45, 21), (16, 16)),
    "a line": ((1, 19), (8, 8)),
    "odd border": ((20, 33), (18, 18)),
}


def images() -> dict[str, Pixels]:
    """uint8 [H, W, 3] in RGB, by name."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for name, (shape, _) in SHAPES.items()}


def answers(cv2: Any) -> dict[str, Pixels]:
    """What OpenCV itself makes of `images`, by "rule/name"."""
    made = {}
    for name, image in images().items():
        height, width = SHAPES[name][1]
        made[f"stretch/{name}"] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        made[f"ultralytics/{name}"] = _ultralytics(cv2, image, height, width)
        made[f"yolox/{name}"] = _yolox(cv2, image, height, width)
    return made


def _ultralytics(cv2: Any, image: Pixels, height: int, width: int) -> Pixels:
    """LetterBox with auto=False, scaleup=True, center=True."""
    ratio = min(height / image.shape[0], width / image.shape[1])
    new = max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1)
    across, down = (width - new[0]) / 2, (height - new[1]) / 2
    image = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    top, bottom, left, right = (round(down - 0.1), round(down + 0.1), round(across - 0.1), round(across + 0.1))
    made: Pixels = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return made


def _yolox(cv2: Any, image: Pixels, height: int, width: int) -> Pixels:
    """`preproc`, of an image that cv2.imread read."""
    image = image[..., ::-1]
    padded = np.full((height, width, 3), 114, np.uint8)
    ratio = min(height / image.shape[0], width / image.shape[1])
    new = max(int(image.shape[1] * ratio), 1), max(int(image.shape[0] * ratio), 1)
    padded[: new[1], : new[0]] = cv2.resize(np.ascontiguousarray(image), new, interpolation=cv2.INTER_LINEAR)
    return padded


def stored() -> dict[str, Pixels]:
    """The answers that are committed."""
    with np.load(FILE) as file:
        return {name: file[name] for name in file.files}


if __name__ == "__main__":
    np.savez_compressed(FILE, **answers(importlib.import_module("cv2")))  # type: ignore[arg-type]
