"""Where images come from, and how a file becomes the model's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Optional

from enginewright.config.choices import ChannelOrder, Layout, Selection
from enginewright.config.setting import setting
from enginewright.registry import RECIPES, SOURCES


@dataclass
class Preprocessing:
    """Image file to model input; one declaration for calibration, validation, benchmark and the application."""

    recipe: str = setting("crop", choices=RECIPES, help="how a sample becomes what the model is fed")
    resize: Optional[int] = setting(
        None, minimum=1, help="recipe crop: shorter side in pixels, bilinear with antialiasing; null keeps the size"
    )
    size: list[int] = setting([28, 28], minimum=1, help="height and width in pixels of what the model is fed")
    channels: ChannelOrder = setting(
        ChannelOrder.gray, help="order of the colour channels that the model was trained with"
    )
    scale: float = setting(1 / 255, above=0, help="applied to uint8 values, before mean and std")
    mean: list[float] = setting([0.0], help="of each channel, in units of the scaled values")
    std: list[float] = setting([1.0], above=0, help="of each channel, in units of the scaled values")
    layout: Layout = setting(Layout.nchw, help="order of the axes of a batch")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as params.yaml holds it."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: value.name if isinstance(value, Enum) else list(value) if isinstance(value, list) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Inverse of `to_dict`. Raises KeyError or TypeError on anything else."""
        choices = {one.name: type(one.default) for one in fields(cls) if isinstance(one.default, Enum)}
        read: dict[str, Any] = {
            name: choices[name][value] if name in choices else value for name, value in values.items()
        }
        return cls(**read)


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
