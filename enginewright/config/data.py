"""Where images come from, and how many of them serve what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from enginewright.config.choices import Selection
from enginewright.config.preprocessing import Preprocessing
from enginewright.config.setting import setting
from enginewright.registry import SOURCES


@dataclass
class Data:
    """Disjoint training, calibration, sensitivity and validation images."""

    source: str = setting("digits", choices=SOURCES, help="where the images come from")
    root: str = setting("data/digits", help="the folder that holds the source; DVC hashes it")
    train_images: int = setting(2700, minimum=0, help="none are needed where the weights are your own")
    calibration_pool: int = setting(
        1000, minimum=1, help="images set apart, from which the calibration images are selected"
    )
    calibration_images: int = setting(500, minimum=1, help="images that the INT8 ranges are taken from")
    sensitivity_images: int = setting(
        300, minimum=1, help="images that rank layers and judge mixtures: neither calibration nor validation"
    )
    validation_images: int = setting(1000, minimum=1, help="images that the accuracy gate judges")
    selection: Selection = setting(Selection.stratified, help="how calibration images are picked from their pool")
    selection_seed: Optional[int] = setting(
        None,
        minimum=0,
        help="of random and stratified; null takes seed; another one draws other images of the same pool",
    )
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
