"""The operators that stand among quantized ones: no integer kernel is asked for, and ONNX Runtime may take one all the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from support.operator_net import SIGNED, Net

Values = Mapping[str, Any]
SHAPE = (4, 6, 8)
CONSTANT, EDGE = "constant", "edge"


def unary(operator: str, *names: str) -> Callable[[Net, Values], str]:
    """One input; `names` of values are attributes of the node."""

    def add(net: Net, values: Values) -> str:
        return net.node(
            operator,
            [net.source(values["source"], *SHAPE)],
            **{name: values[name] for name in names if values[name] is not None},
        )

    return add


def constants(operator: str) -> Callable[[Net, Values], str]:
    """The other inputs are stored: of Clip, Pow, Div, Sub, Max, Min, PRelu."""

    def add(net: Net, values: Values) -> str:
        others = ["" if value is None else net.constant(np.asarray(value, np.float32)) for value in values["stored"]]
        return net.node(operator, [net.source(values["source"], *SHAPE), *others])

    return add


def computed(operator: str) -> Callable[[Net, Values], str]:
    """Sub, Div, Max or Min of two tensors that are computed."""

    def add(net: Net, values: Values) -> str:
        return net.node(operator, [net.source(values["source"], *SHAPE), net.source(values["sign"], *SHAPE)])

    return add


def normalization(operator: str) -> Callable[[Net, Values], str]:
    """InstanceNormalization over maps, LayerNormalization over the last axis, BatchNormalization behind an operator
    that it cannot be folded into.
    """

    def add(net: Net, values: Values) -> str:
        size = SHAPE[-1] if operator == "LayerNormalization" else SHAPE[0]
        parameters = [
            net.constant(np.abs(net.normal(size)) + np.float32(0.1))
            for _ in range(4 if operator == "BatchNormalization" else 2)
        ]
        source = net.source(values["source"], *SHAPE)
        if operator == "BatchNormalization" and values["source"] == SIGNED:
            source = net.node("Sigmoid", [source])
        return net.node(operator, [source, *parameters])

    return add


def where(net: Net, values: Values) -> str:
    """By a stored mask or by a comparison; one side may be stored."""
    source = net.source(values["source"], *SHAPE)
    mask = net.constant(net.random.random((1, *SHAPE)) < 0.5)
    if values["mask"] == "compared":
        mask = net.node("Greater", [source, net.constant(np.float32(0.1))])
    shape = {"scalar": (), "map": (1, *SHAPE)}.get(values["other"])
    other = (
        net.source(SIGNED, *SHAPE)
        if shape is None
        else net.constant(np.asarray(net.random.normal(size=shape), np.float32))
    )
    return net.node("Where", [mask, *((other, source) if values["turned"] else (source, other))])


def resize(net: Net, values: Values) -> str:
    """By scales, or to sizes."""
    source = net.source(values["source"], *SHAPE)
    how = {"mode": values["mode"], "coordinate_transformation_mode": values["coordinates"]}
    if values["mode"] == "nearest":
        how["nearest_mode"] = values["nearest"]
    if values["by"] == "sizes":
        return net.node("Resize", [source, "", "", net.constant(np.array([8, 4, 9, 20], np.int64))], **how)
    return net.node("Resize", [source, "", net.constant(np.array([1, 1, *values["scales"]], np.float32))], **how)


def split(net: Net, values: Values) -> str:
    """Both parts are read."""
    source, axis = net.source(values["source"], *SHAPE), values["axis"]
    sizes = {0: [3, 5], 1: [1, 3], 2: [2, 4], 3: [4, 4]}[axis % 4]
    first = net.node("Split", [source, net.constant(np.array(sizes, np.int64))], 2, axis=axis)
    second = net.nodes[-1].output[1]
    if values["then"] == "joined":
        return net.node("Concat", [second, first], axis=axis)
    net.read(str(second))
    return first


def gather(net: Net, values: Values) -> str:
    """Rows by stored numbers."""
    indices = np.array(values["indices"], np.int64)
    return net.node("Gather", [net.source(values["source"], *SHAPE), net.constant(indices)], axis=values["axis"])


def slice_(net: Net, values: Values) -> str:
    """From a start to an end, perhaps in steps or backwards."""
    start, end, step = values["range"]
    numbers = [net.constant(np.array([number], np.int64)) for number in (start, end, values["axis"], step)]
    return net.node("Slice", [net.source(values["source"], *SHAPE), *numbers])


def pad(net: Net, values: Values) -> str:
    """Around maps."""
    inputs = [net.source(values["source"], *SHAPE), net.constant(np.array([0, 0, 1, 2, 0, 0, 2, 0], np.int64))]
    if values["value"] is not None and values["mode"] == CONSTANT:
        inputs.append(net.constant(np.float32(values["value"])))
    return net.node("Pad", inputs, mode=values["mode"])


def expand(net: Net, values: Values) -> str:
    """Of what was averaged."""
    mean = net.node("GlobalAveragePool", [net.source(values["source"], *SHAPE)])
    return net.node("Expand", [mean, net.constant(np.array(values["to"], np.int64))])
