"""What an ONNX file says of its inputs, what is asked for, and what is refused because nobody said it."""

from __future__ import annotations

from typing import Any, Optional, Union

import numpy as np
import onnx
import pytest

from enginewright.cli.onnx_input import (
    Asked,
    Fed,
    ImageInput,
    fed_arrays,
    fed_images,
    fitted,
    parse_axes,
    parse_size,
    read_interface,
)
from enginewright.config import Layout
from enginewright.errors import ConfigError
from enginewright.interface import AxisRange, Interface, TensorSpec

BATCH = {"batch": AxisRange(1, 32, 128)}
HD = {"height": AxisRange(320, 640, 1280), "width": AxisRange(320, 640, 1280)}
Shape = tuple[Union[int, str], ...]


def of(*inputs: Shape, dtype: str = "float32") -> Interface:
    names = ("x", "y")
    return Interface(tuple(TensorSpec(name, np.dtype(dtype), shape) for name, shape in zip(names, inputs)), ())


def asked(axes: tuple[str, ...] = (), size: Optional[str] = None) -> Asked:
    return Asked(parse_axes(axes), parse_size(size))


@pytest.mark.parametrize(
    ("shape", "said", "fed"),
    [
        pytest.param(
            ("batch", 3, 224, 200), asked(), Fed(BATCH, {}, ImageInput("x", 3, Layout.nchw, (224, 200))), id="all said"
        ),
        pytest.param(
            ("N", 28, 20, 1), asked(), Fed(BATCH, {}, ImageInput("x", 1, Layout.nhwc, (28, 20))), id="channels last"
        ),
        pytest.param(
            (1, 4, 8, 8),
            asked(),
            Fed(BATCH, {"x": {0: "batch"}}, ImageInput("x", 4, Layout.nchw, (8, 8))),
            id="fixed batch",
        ),
        pytest.param(
            ("batch", 3, "height", "width"),
            asked(("height=320:640:1280", "width=320:640:1280", "batch=1:2:4")),
            Fed({"batch": AxisRange(1, 2, 4), **HD}, {}, ImageInput("x", 3, Layout.nchw, (640, 640))),
            id="ranges",
        ),
        pytest.param(
            ("", 3, "", ""),
            asked(("height=320:640:1280", "width=320:640:1280"), "480x512"),
            Fed(
                {**BATCH, **HD},
                {"x": {2: "height", 3: "width"}},
                ImageInput("x", 3, Layout.nchw, (480, 512)),
            ),
            id="ranges and a size, unnamed",
        ),
        pytest.param(
            ("batch", 3, "h", 200),
            asked((), "480x200"),
            Fed({**BATCH, "h": AxisRange(480, 480, 480)}, {}, ImageInput("x", 3, Layout.nchw, (480, 200))),
            id="a size alone",
        ),
        pytest.param(
            ("batch", 3, "side", "side"),
            asked((), "64x64"),
            Fed({**BATCH, "side": AxisRange(64, 64, 64)}, {}, ImageInput("x", 3, Layout.nchw, (64, 64))),
            id="one axis for both sides",
        ),
    ],
)
def test_images(shape: Shape, said: Asked, fed: Fed) -> None:
    assert fed_images(of(shape), said, "m.onnx") == fed


@pytest.mark.parametrize(
    ("interface", "said", "sentence"),
    [
        pytest.param(
            of(("batch", 3, 8, 8), ("batch", 1)),
            asked(),
            "m.onnx has 2 inputs (x [batch, 3, 8, 8], y [batch, 1]), and an image makes one; give --data a folder with"
            " one .npz a sample, an array for each input",
            id="two inputs",
        ),
        pytest.param(
            of(("batch", 10)),
            asked(),
            "the input x [batch, 10] of m.onnx has 2 axes, and images have 4 (batch,",
            id="rank",
        ),
        pytest.param(
            of(("batch", 3, 8, 8), dtype="uint8"), asked(), "takes uint8, and preprocessed images are", id="dtype"
        ),
        pytest.param(
            of(("batch", 7, 8, 8)),
            asked(),
            "the input x [batch, 7, 8, 8] of m.onnx has no axis of 1, 3, 4 channels, neither the second nor the last",
            id="channels",
        ),
        pytest.param(
            of(("batch", 3, "", "")),
            asked(),
            "the input x [batch, 3, ?, ?] leaves its height open; say what images become with --size 480x640, or which"
            " sizes an engine takes with --axes height=320:640:1280",
            id="no size",
        ),
        pytest.param(
            of(("batch", 3, 48, "w")),
            asked(),
            "the input x [batch, 3, 48, w] leaves its width open; say what images become with --size 48x640, or which"
            " sizes an engine takes with --axes w=320:640:1280",
            id="one of two",
        ),
        pytest.param(
            of(("batch", 3, 8, 8)),
            asked((), "16x16"),
            "--size 16x16 is not what the input x [batch, 3, 8, 8] takes; leave it out",
            id="another size",
        ),
        pytest.param(
            of(("batch", 3, "h", "w")),
            asked(("h=8:16:32", "w=8:16:32"), "16x64"),
            "--size 16x64: 64 is outside --axes w=8:16:32",
            id="outside",
        ),
        pytest.param(
            of(("batch", 3, "h", "w")),
            asked(("h=8:16:32", "v=8:16:32"), "16x16"),
            "--axes v: no input of the model has a dynamic axis of that name; choose one of",
            id="no such axis",
        ),
    ],
)
def test_what_no_image_can_be_or_nobody_said(interface: Interface, said: Asked, sentence: str) -> None:
    with pytest.raises(ConfigError) as fault:
        fed_images(interface, said, "m.onnx")
    assert sentence in str(fault.value)


def test_what_is_no_name_is_none() -> None:
    """As Paddle writes axes."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [-1, 3, "?", "a b"])
    graph = onnx.helper.make_graph([], "g", [value], [])
    assert read_interface(onnx.helper.make_model(graph)).inputs[0].shape == ("", 3, "", "")


def test_arrays_need_a_range_for_each_open_axis() -> None:
    interface = of(("batch", "tokens"), (1, "", 3))
    fed = fed_arrays(interface, asked(("tokens=16:128:512", "y_1=4")))
    assert fed.axes == {**BATCH, "tokens": AxisRange(16, 128, 512), "y_1": AxisRange(4, 4, 4)}
    assert fed.axis_names == {"y": {0: "batch", 1: "y_1"}}
    with pytest.raises(
        ConfigError, match=r"^the input y \[1, \?, 3\] leaves the axis y_1 open; .* --axes y_1=16:128:512"
    ):
        fed_arrays(interface, asked(("tokens=16:128:512",)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("height", "--axes height is not like height=320:640:1280", id="no value"),
        pytest.param("height=1:2", "--axes height=1:2 is not like", id="two sizes"),
        pytest.param("height=4:2:8", "an axis cannot range over min 4, opt 2, max 8", id="order"),
    ],
)
def test_a_range_that_is_none(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_axes([text])


@pytest.mark.parametrize("text", ["640", "0x640", "640x", "axb"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--size {text} is not like 480x640, height and width in pixels$"):
        parse_size(text)


PRESET: dict[str, Any] = {"recipe": "crop", "resize": 256, "size": [224, 224], "channels": "rgb", "pad": [114]}
SAME = {**PRESET, "mean": [0.5] * 3, "std": [0.25] * 3}
EACH = {**PRESET, "mean": [0.1, 0.2, 0.3], "std": [0.25] * 3}


@pytest.mark.parametrize(
    ("preset", "image", "expected"),
    [
        pytest.param(
            EACH,
            ImageInput("x", 3, Layout.nhwc, (448, 560)),
            {"size": [448, 560], "layout": "nhwc", "resize": 512},
            id="the share that is cut out stays",
        ),
        pytest.param(
            {**SAME, "recipe": "stretch", "resize": None},
            ImageInput("x", 1, Layout.nchw, (28, 28)),
            {"size": [28, 28], "layout": "nchw", "channels": "gray", "mean": [0.5], "std": [0.25], "pad": [114]},
            id="gray",
        ),
        pytest.param(
            {**SAME, "recipe": "letterbox", "resize": None},
            ImageInput("x", 4, Layout.nchw, (28, 28)),
            {
                "size": [28, 28],
                "layout": "nchw",
                "channels": "rgba",
                "mean": [0.5] * 4,
                "std": [0.25] * 4,
                "pad": [114],
            },
            id="four",
        ),
    ],
)
def test_a_preset_takes_the_size_and_the_channels_of_the_input(
    preset: dict[str, Any], image: ImageInput, expected: dict[str, Any]
) -> None:
    assert fitted(preset, image, "imagenet") == expected


def test_figures_of_three_channels_say_nothing_of_one() -> None:
    with pytest.raises(ConfigError) as fault:
        fitted(EACH, ImageInput("x", 1, Layout.nchw, (28, 28)), "imagenet")
    assert str(fault.value) == (
        "--preprocess imagenet is of rgb images, and the input 'x' takes 1 channel; choose a preset whose figures are"
        " the same for all channels, such as unit or raw"
    )
