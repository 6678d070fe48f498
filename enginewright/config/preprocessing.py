"""How a sample becomes the model's input, and which of these settings go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Optional

from enginewright.config.choices import Anchor, ChannelOrder, Interpolation, Layout, Rounding
from enginewright.config.setting import setting
from enginewright.registry import RECIPES

RESIZING = ("crop", "letterbox", "stretch")  # recipes that bring an image to `size`
OF_IMAGES = (*RESIZING, "whole")  # that make one input of an image
CHANNELS = {ChannelOrder.gray: 1, ChannelOrder.rgb: 3, ChannelOrder.bgr: 3, ChannelOrder.rgba: 4}


@dataclass
class Preprocessing:
    """Image file to model input; one declaration for calibration, validation, benchmark and the application."""

    recipe: str = setting("crop", choices=RECIPES, help="how a sample becomes what the model is fed")
    resize: Optional[int] = setting(
        None, minimum=1, help="recipe crop: what the shorter side is resized to, in pixels; null keeps the size"
    )
    size: list[int] = setting([28, 28], minimum=1, help="height and width in pixels of what the model is fed")
    anchor: Anchor = setting(
        Anchor.centre, help="where recipe letterbox puts the image in the input, and recipe crop cuts it out"
    )
    rounding: Rounding = setting(
        Rounding.nearest, help="recipe letterbox: how the resized height and width become whole pixels"
    )
    pad: list[int] = setting(
        [114], minimum=0, maximum=255, help="recipe letterbox: level of the border, for all channels or of each"
    )
    antialias: bool = setting(
        True, help="whether a smaller image is an average, as Pillow and torchvision make it; false: as OpenCV does"
    )
    interpolation: Interpolation = setting(Interpolation.bilinear, help="how an image is resized")
    channels: ChannelOrder = setting(
        ChannelOrder.gray, help="order of the colour channels that the model was trained with"
    )
    scale: float = setting(1 / 255, above=0, help="applied to uint8 values, before mean and std")
    mean: list[float] = setting([0.0], help="of each channel, in units of the scaled values")
    std: list[float] = setting([1.0], above=0, help="of each channel, in units of the scaled values")
    layout: Layout = setting(Layout.nchw, help="order of the axes of a batch")

    @property
    def channel_count(self) -> int:
        """How many channels an image has."""
        return CHANNELS[self.channels]

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


def faults(preprocessing: Preprocessing) -> Iterator[tuple[str, str]]:
    """Yield what does not go together as (key, what is wrong and what to do).

    A recipe that another package brings checks itself.
    """
    if preprocessing.recipe not in OF_IMAGES:
        return
    if len(preprocessing.size) != 2:
        yield "data.preprocessing.size", f"{preprocessing.size} is not [height, width] in pixels"
    yield from _of_each_channel(preprocessing)
    if preprocessing.resize is not None and preprocessing.recipe != "crop":
        yield (
            "data.preprocessing.resize",
            f"{preprocessing.resize} is for recipe crop alone, and this is {preprocessing.recipe}; set it to null",
        )
    if preprocessing.interpolation is Interpolation.bicubic and not preprocessing.antialias:
        yield (
            "data.preprocessing.interpolation",
            "bicubic is there with antialiasing alone; set data.preprocessing.antialias to true, or take bilinear",
        )


def _of_each_channel(preprocessing: Preprocessing) -> Iterator[tuple[str, str]]:
    channels = preprocessing.channel_count
    lists: dict[str, list[Any]] = {"mean": preprocessing.mean, "std": preprocessing.std}
    if len(preprocessing.pad) != 1:
        lists["pad"] = preprocessing.pad
    for name, values in lists.items():
        if len(values) != channels:
            yield (
                f"data.preprocessing.{name}",
                f"{values} has {len(values)} values for {channels} channels ({preprocessing.channels.name})",
            )
