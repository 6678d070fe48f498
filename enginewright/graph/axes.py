"""Dynamic axes that a file leaves unnamed, and the line of configuration that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

IMAGE_AXES = {0: "batch", 2: "height", 3: "width"}
TOKEN_AXES = {0: "batch", 1: "tokens"}

Axis = Union[int, str, None]  # fixed, symbolic, unknown


def is_unnamed(axis: Axis) -> bool:
    """Whether an axis is dynamic without a name: Paddle writes -1 and `?` for it."""
    return axis < 0 if isinstance(axis, int) else not any(letter.isalnum() for letter in axis or "")


def usual_names(axes: Sequence[Axis]) -> list[str]:
    """The name of each axis of an input: its own, else the usual one for its place."""
    usual = IMAGE_AXES if len(axes) == 4 else TOKEN_AXES if len(axes) == 2 else {0: "batch"}
    return [axis if isinstance(axis, str) else usual.get(place, f"axis_{place}") for place, axis in enumerate(axes)]


def naming_line(name: str, axes: Mapping[int, str]) -> str:
    """The line of configuration that names axes: `model.axis_names: {images: {0: batch}}`."""
    return f"model.axis_names: {{{name}: {{{', '.join(f'{place}: {axis}' for place, axis in axes.items())}}}}}"
