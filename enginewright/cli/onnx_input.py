"""What an ONNX file's interface says of how images must be fed, for `enginewright init --onnx`: what it does not say is
asked for, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from enginewright.config import ChannelOrder, Layout
from enginewright.config.preprocessing import CHANNELS
from enginewright.errors import ConfigError, nearest
from enginewright.interface import BATCH, UNNAMED, AxisRange, Interface, TensorSpec

if TYPE_CHECKING:
    import onnx

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # of an axis
HEIGHT, WIDTH = "height", "width"
DEPTHS = (1, 3, 4)  # channels that an image can have
ARRAYS = "give --data a folder with one .npz a sample, an array for each input"
FLOATS = (np.dtype(np.float32), np.dtype(np.float16))
DEFAULT = AxisRange(1, 32, 128)  # of the batch


@dataclass(frozen=True)
class Fed:
    """How the inputs of a model are fed."""

    axes: Mapping[str, AxisRange]  # of each dynamic axis
    axis_names: Mapping[str, Mapping[int, str]]  # input -> place -> name, for axes that the file leaves unnamed
    image: Optional[ImageInput] = None  # None for arrays


@dataclass(frozen=True)
class ImageInput:
    """The one input that an image becomes."""

    name: str
    channels: int
    layout: Layout
    size: tuple[int, int]  # height and width


@dataclass
class Asked:
    """What the command line says of axes."""

    axes: dict[str, AxisRange] = field(default_factory=dict)
    size: Optional[tuple[int, int]] = None
    used: set[str] = field(default_factory=set)

    def range_of(self, name: str) -> Optional[AxisRange]:
        """What was given for an axis, None if nothing was."""
        self.used.add(name)
        return self.axes.get(name)

    def require_used(self, interface: Interface) -> None:
        """Raise ConfigError for a name that no axis has."""
        for name in self.axes:
            if name not in self.used:
                raise ConfigError(
                    f"--axes {name}: no input of the model has a dynamic axis of that name{nearest(name, self.used)}"
                    f" ({described(interface.inputs)})"
                )


def read_interface(model: onnx.ModelProto) -> Interface:
    """Return the interface of a file; an axis that it gives no name, or none that is one, is UNNAMED.

    Raises:
        ModelError: as `Interface.from_onnx`.
    """
    interface = Interface.from_onnx(model)
    return Interface(tuple(map(_plain, interface.inputs)), tuple(map(_plain, interface.outputs)))


def _plain(spec: TensorSpec) -> TensorSpec:
    """Paddle writes -1 and `?` where it means nothing."""
    usable = [axis if (axis > 0 if isinstance(axis, int) else NAME.fullmatch(axis)) else UNNAMED for axis in spec.shape]
    return replace(spec, shape=tuple(usable))


def parse_axes(given: Sequence[str]) -> dict[str, AxisRange]:
    """Read NAME=MIN:OPT:MAX, or NAME=SIZE. Raises ConfigError."""
    found = {}
    for text in given:
        match = re.fullmatch(r"(\w+)=(\d+)(?::(\d+):(\d+))?", text)
        if match is None:
            raise ConfigError(f"--axes {text} is not like height=320:640:1280 (smallest, usual, largest) or height=640")
        name, least, usual, most = match.groups()
        found[name] = AxisRange(int(least), int(usual or least), int(most or least))
    return found


def parse_size(given: Optional[str]) -> Optional[tuple[int, int]]:
    """Read HEIGHTxWIDTH. Raises ConfigError."""
    if given is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", given)
    if match is None or not all(map(int, match.groups())):
        raise ConfigError(f"--size {given} is not like 480x640, height and width in pixels")
    return int(match[1]), int(match[2])


def described(specs: Sequence[TensorSpec]) -> str:
    """`x [batch, 3, ?, ?]` of each tensor."""
    return ", ".join(
        f"{spec.name} [{', '.join('?' if axis == UNNAMED else str(axis) for axis in spec.shape)}]" for spec in specs
    )


def fed_arrays(interface: Interface, asked: Asked) -> Fed:
    """Say how arrays are fed: every dynamic axis but the batch needs a range, and a name.

    Raises:
        ConfigError: which range is missing.
    """
    axes, names = _batch(interface, asked)
    for spec in interface.inputs:
        for place, axis in enumerate(spec.shape[1:], 1):
            if isinstance(axis, int):
                continue
            name = axis or f"{re.sub(r'[^A-Za-z0-9_]', '_', spec.name)}_{place}"
            if axis == UNNAMED:
                names.setdefault(spec.name, {})[place] = name
            wanted = asked.range_of(name)
            if wanted is None:
                raise ConfigError(
                    f"the input {described([spec])} leaves the axis {name} open; say which sizes an engine takes, such"
                    f" as --axes {name}=16:128:512"
                )
            axes[name] = wanted
    asked.require_used(interface)
    return Fed(axes, names)


def fed_images(interface: Interface, asked: Asked, where: str) -> Fed:
    """Say how images are fed.

    Args:
        interface: of the file.
        asked: `--axes` and `--size`.
        where: what to call the file.

    Raises:
        ConfigError: no image can be what the inputs take, or the sizes of open axes are missing.
    """
    if len(interface.inputs) != 1:
        raise ConfigError(
            f"{where} has {len(interface.inputs)} inputs ({described(interface.inputs)}), and an image makes one;"
            f" {ARRAYS}"
        )
    spec = interface.inputs[0]
    layout, channels = _channels(spec, where)
    axes, names = _batch(interface, asked)
    first = 2 if layout is Layout.nchw else 1
    sides = [_side(spec, first, HEIGHT, names, asked), _side(spec, first + 1, WIDTH, names, asked)]
    example = "x".join(str(side.size or usual) for side, usual in zip(sides, (480, 640)))
    for name, side in zip((HEIGHT, WIDTH), sides):
        if side.size is None:
            raise ConfigError(
                f"the input {described([spec])} leaves its {name} open; say what images become with --size {example},"
                f" or which sizes an engine takes with --axes {side.name}=320:640:1280"
            )
        if isinstance(side.name, str):
            axes[side.name] = side.range or AxisRange(side.size, side.size, side.size)
    size = (sides[0].size or 0, sides[1].size or 0)
    if asked.size not in (None, size):
        assert asked.size is not None
        raise ConfigError(
            f"--size {asked.size[0]}x{asked.size[1]} is not what the input {described([spec])} takes; leave it out"
        )
    for name, its in axes.items():
        for side in sides:
            if side.name == name and not its.min <= (side.size or 0) <= its.max:
                raise ConfigError(
                    f"--size {size[0]}x{size[1]}: {side.size} is outside --axes {name}={its.min}:{its.opt}:{its.max}"
                )
    asked.require_used(interface)
    return Fed(axes, names, ImageInput(spec.name, channels, layout, size))


def _batch(interface: Interface, asked: Asked) -> tuple[dict[str, AxisRange], dict[str, dict[int, str]]]:
    """The batch, which is the first axis of each input, whatever its name; a fixed one is to be freed."""
    names = {spec.name: {0: BATCH} for spec in interface.inputs if spec.shape and isinstance(spec.shape[0], int)}
    return {BATCH: asked.range_of(BATCH) or DEFAULT}, names


def _channels(spec: TensorSpec, where: str) -> tuple[Layout, int]:
    if len(spec.shape) != 4:
        raise ConfigError(
            f"the input {described([spec])} of {where} has {len(spec.shape)} axes, and images have 4 (batch, channels,"
            f" height, width); {ARRAYS}"
        )
    if spec.dtype not in FLOATS:
        raise ConfigError(
            f"the input {described([spec])} of {where} takes {spec.dtype}, and preprocessed images are float; {ARRAYS}"
        )
    for layout, place in ((Layout.nchw, 1), (Layout.nhwc, 3)):
        axis = spec.shape[place]
        if isinstance(axis, int) and axis in DEPTHS:
            return layout, axis
    raise ConfigError(
        f"the input {described([spec])} of {where} has no axis of {', '.join(map(str, DEPTHS))} channels, neither the"
        f" second nor the last; {ARRAYS}"
    )


@dataclass(frozen=True)
class _Side:
    name: Union[int, str]  # of its axis; a size where it is fixed
    size: Optional[int]  # of images in pixels; None where nothing says
    range: Optional[AxisRange]


def _side(spec: TensorSpec, place: int, plain: str, names: dict[str, dict[int, str]], asked: Asked) -> _Side:
    """Height or width."""
    axis = spec.shape[place]
    if isinstance(axis, int):
        return _Side(axis, axis, None)
    if axis == UNNAMED:
        axis = plain
        names.setdefault(spec.name, {})[place] = axis
    wanted = asked.range_of(axis)
    given = asked.size[(HEIGHT, WIDTH).index(plain)] if asked.size else None
    return _Side(axis, given or (wanted.opt if wanted else None), wanted)


def fitted(preset: Mapping[str, Any], image: ImageInput, name: str) -> dict[str, Any]:
    """Return what a preset's settings become for an input: its size, layout and channels.

    The part of an image that recipe `crop` cuts out stays what the preset says.

    Raises:
        ConfigError: the preset is of another number of channels, and its figures differ by channel.
    """
    settings: dict[str, Any] = {"size": list(image.size), "layout": image.layout.name}
    if preset.get("resize") and preset["recipe"] == "crop":
        share = min(image.size) / min(preset["size"])
        settings["resize"] = max(round(preset["resize"] * share), min(image.size))
    if CHANNELS[ChannelOrder[preset["channels"]]] == image.channels:
        return settings
    same = {key: sorted(set(preset[key])) for key in ("mean", "std", "pad")}
    if any(len(values) != 1 for values in same.values()):
        raise ConfigError(
            f"--preprocess {name} is of {preset['channels']} images, and the input '{image.name}' takes"
            f" {image.channels} channel{'s' if image.channels > 1 else ''}; choose a preset whose figures are the same"
            " for all channels, such as unit or raw"
        )
    order = {1: "gray", 3: "rgb", 4: "rgba"}[image.channels]
    return {
        **settings,
        "channels": order,
        "mean": same["mean"] * image.channels,
        "std": same["std"] * image.channels,
        "pad": same["pad"],
    }
