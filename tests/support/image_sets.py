"""Settings of small image sets, and what seals them as the stage does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enginewright import manifest
from enginewright.config import Data, Preprocessing, Selection

SETS = ("training", "calibration", "sensitivity", "validation")


@contextmanager
def output(artifact: Path, settings: dict[str, Any]) -> Iterator[Path]:
    with manifest.replacing(artifact) as temporary:
        yield temporary
    manifest.seal(artifact, "prepare_data", [], settings=settings)


def settings(**changes: Any) -> Data:
    values: dict[str, Any] = {
        "source": "image_folder",
        "root": "images",
        "preprocessing": Preprocessing(size=[6, 6]),
        "train_images": 20,
        "calibration_pool": 10,
        "calibration_images": 6,
        "sensitivity_images": 2,
        "validation_images": 8,
        "selection": Selection.stratified,
    }
    return Data(**{**values, **changes})
