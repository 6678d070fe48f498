"""Every attribute of every operator that INT8 touches: first each value alone, then combinations drawn from one seed.

A value that ONNX Runtime refuses in float is none of ours: `cases` leaves it out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from support import operator_cases_mixed as mixed
from support.operator_net import BATCH, CHANNELS, CLIP, FED, NEGATIVE, RELU, SIGNED, SOURCES, Net

Values = Mapping[str, Any]
Space = Mapping[str, Sequence[Any]]  # attribute -> its values, the usual one first


@dataclass(frozen=True)
class Case:
    """One graph around an operator."""

    operator: str
    values: Values  # those that are not the usual ones
    net: Net

    @property
    def kernel(self) -> str:
        """The operator's name in ONNX."""
        return self.operator.split()[0]

    @property
    def label(self) -> str:
        """`AveragePool ceil_mode=1 kernel=3`."""
        return " ".join([self.operator, *(f"{name}={value}" for name, value in self.values.items())])


@dataclass(frozen=True)
class Operator:
    """How an operator is put into a graph, and what there is to vary."""

    space: Space
    add: Callable[[Net, Values], str]


def cases(operator: str, combinations: int, seed: int = 0, pairs: bool = False) -> Iterator[Case]:
    """The usual values, each other value alone, with `pairs` each two together, and `combinations` of all; what does
    not run in float is left out.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        NotImplemented as Unsupported,
        RuntimeException,
    )

    known = OPERATORS[operator]
    usual = {name: options[0] for name, options in known.space.items()}
    for number, values in enumerate(
        _chosen(known.space, combinations, pairs, np.random.default_rng([seed, *operator.encode()]))
    ):
        net = Net(seed=1000 * seed + number, opset=values.get("opset", 17))
        try:
            net.finish(known.add(net, values), values["behind"])
        except (Fail, InvalidArgument, InvalidGraph, RuntimeException, Unsupported):
            continue
        yield Case(operator, {name: value for name, value in values.items() if value != usual[name]}, net)


def _chosen(space: Space, combinations: int, pairs: bool, random: np.random.Generator) -> Iterator[Values]:
    usual = {name: values[0] for name, values in space.items()}
    yield usual
    for name, values in space.items():
        for value in values[1:]:
            yield {**usual, name: value}
    for one, other in itertools.combinations(space, 2) if pairs else ():
        yield from (
            {**usual, one: first, other: second}
            for first, second in itertools.product(space[one][1:], space[other][1:])
        )
    for _ in range(combinations):
        yield {name: values[int(random.integers(len(values)))] for name, values in space.items()}


def _windows(values: Values, rank: int) -> dict[str, Any]:
    """The attributes of a window: kernel, strides, pads, dilations."""
    found: dict[str, Any] = {"kernel_shape": [values["kernel"]] * rank}
    if values["stride"] != 1:
        found["strides"] = [values["stride"]] * rank
    if values["pads"].startswith("SAME") and values["kernel"] < values["stride"]:
        pass  # ONNX does not say what SAME means where windows lie apart
    elif values["pads"] in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        found["auto_pad"] = values["pads"]
    elif values["pads"] != "none":
        found["pads"] = {"both": [1] * rank * 2, "first": [1] * rank + [0] * rank, "last": [0] * rank + [1] * rank}[
            values["pads"]
        ]
    if values.get("dilation", 1) != 1 and "auto_pad" not in found:  # no two runtimes agree on what SAME means then
        found["dilations"] = [values["dilation"]] * rank
    return found


PADS = ("none", "both", "first", "last", "SAME_UPPER", "SAME_LOWER", "VALID")
BEHIND = ("layer", "two layers", "nothing", "layer and output")


def _map(values: Values) -> tuple[int, ...]:
    """[channels, *positions], so that an average over all maps of one channel has enough numbers."""
    return (values.get("channels", CHANNELS), *{1: (33,), 2: (values.get("size", 9), 8), 3: (6, 5, 7)}[values["rank"]])


def _conv(net: Net, values: Values) -> str:
    channels = values["channels"]
    group = {"one": 1, "two": 2, "each": channels}[values["group"]]
    if channels % group:
        group = 1
    weight = net.constant(net.normal(channels * 2, channels // group, *[values["kernel"]] * values["rank"]))
    source = net.source(values["source"], *_map(values))
    inputs = [source, weight]
    if values["bias"] == "stored":
        inputs.append(net.constant(net.normal(channels * 2)))
    elif values["bias"] == "computed":
        inputs.append(
            net.node("Mul", [net.constant(net.normal(channels * 2)), net.node("ReduceMean", [source], keepdims=0)])
        )
    return net.node("Conv", inputs, group=group, **_windows(values, values["rank"]))


def _conv_transpose(net: Net, values: Values) -> str:
    channels = values["channels"]
    group = {"one": 1, "two": 2, "each": channels}[values["group"]]
    if channels % group:
        group = 1
    weight = net.constant(net.normal(channels, channels * 2 // group, *[values["kernel"]] * values["rank"]))
    inputs = [
        net.source(values["source"], *_map(values)),
        weight,
        *([net.constant(net.normal(channels * 2))] if values["bias"] == "stored" else []),
    ]
    more: dict[str, Any] = {"output_padding": [1] * values["rank"]} if values["output_padding"] else {}
    return net.node("ConvTranspose", inputs, group=group, **more, **_windows(values, values["rank"]))


def _gemm(net: Net, values: Values) -> str:
    rows, depth, width = BATCH, 12, BATCH  # so that a column of biases is as long as a row
    source = net.node("Flatten", [net.source(values["source"], depth, 1)])
    if values["transA"]:  # [depth, rows] again, by a layer that makes it so
        source = net.node("Transpose", [source], perm=[1, 0])
    weight = net.constant(net.normal(*((width, depth) if values["transB"] else (depth, width))))
    shape = {
        "none": None,
        "row": (width,),
        "scalar": (),
        "one": (1,),
        "row of a matrix": (1, width),
        "column": (rows, 1),
        "matrix": (rows, width),
    }
    bias = shape[values["bias"]]
    inputs = [
        source,
        weight,
        *([] if bias is None else [net.constant(np.asarray(4 * net.random.normal(size=bias), np.float32))]),
    ]
    attributes = {
        "transA": values["transA"],
        "transB": values["transB"],
        "alpha": values["alpha"],
        "beta": values["beta"],
    }
    return net.node("Gemm", inputs, **attributes)


def _matmul(net: Net, values: Values) -> str:
    """A product, and perhaps a bias behind it."""
    made = _product(net, values)
    kind, shape = values["bias"], net.shape(made)
    if kind == "none":
        return made
    bias = net.constant(
        4
        * net.normal(*({"row": shape[-1:], "row in front": shape[-1:], "column": (*shape[-2:-1], 1)}.get(kind) or (1,)))
    )
    return net.node("Add", [bias, made] if kind == "row in front" else [made, bias])


def _product(net: Net, values: Values) -> str:
    """Ranks of the sides from 1 to 4, the last axes 6 and 5."""
    source = net.source(values["source"], 2, 5, 6)  # [BATCH, 2, 5, 6]
    shapes = {1: [-1], 2: [-1, 6], 3: [-1, 5, 6], 4: [-1, 2, 5, 6]}
    left = (
        source
        if values["left"] == 4
        else net.node("Reshape", [source, net.constant(np.array(shapes[values["left"]], np.int64))])
    )
    stored = {1: (6,), 2: (6, 7), 3: (1 if values["left"] == 2 else 2, 6, 7), 4: (1, 2, 6, 7)}[values["right"]]
    if values["stored"] == "right":
        return net.node("MatMul", [left, net.constant(net.normal(*stored))])
    if values["stored"] == "left":
        shape = {1: (5,), 2: (7, 5), 3: (2, 7, 5), 4: (1, 2, 7, 5)}[values["right"]]
        return net.node("MatMul", [net.constant(net.normal(*shape)), left])
    other = net.source(SIGNED, 2, 6, 5)
    shapes = {1: [-1], 2: [6, -1], 3: [-1, 6, 5], 4: [-1, 2, 6, 5]}
    right = net.node("Reshape", [other, net.constant(np.array(shapes[values["right"]], np.int64))])
    return net.node("MatMul", [left, right])


def _arithmetic(operator: str) -> Callable[[Net, Values], str]:
    def add(net: Net, values: Values) -> str:
        channels = values["channels"]
        source = net.source(values["source"], channels, 5, 6)
        kind = values["other"]
        if kind == "itself":
            return net.node(operator, [source, source])
        if kind.startswith("stored"):
            shape = {
                "stored scalar": (),
                "stored one": (1,),
                "stored row": (6,),
                "stored channels": (channels, 1, 1),
                "stored map": (1, channels, 5, 6),
            }[kind]
            value = np.asarray(net.random.normal(size=shape), np.float32)
            other = net.constant(np.abs(value) if values["sign"] == RELU else value)
        else:
            shape = {
                "same": (channels, 5, 6),
                "channels": (channels, 1, 1),
                "map": (1, 5, 6),
                "row": (1, 1, 6),
                "one": (1, 1, 1),
            }[kind]
            other = net.source(values["sign"], *shape)
        return net.node(operator, [other, source] if values["turned"] else [source, other])

    return add


def _concat(net: Net, values: Values) -> str:
    kinds = itertools.cycle([values["source"], *values["others"]])
    channels = values["channels"]
    tensors = [net.source(next(kinds), channels, 5, 6) for _ in range(values["inputs"])]
    if values["more"] == "twice":
        tensors.append(tensors[0])
    elif values["more"] == "stored":
        tensors.append(net.constant(net.normal(BATCH, channels, 5, 6)))
    elif values["more"] == "pooled":
        tensors.append(net.node("MaxPool", [tensors[0]], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    return net.node("Concat", tensors, axis=values["axis"])


def _pool(operator: str) -> Callable[[Net, Values], str]:
    def add(net: Net, values: Values) -> str:
        source = net.source(values["source"], *_map(values))
        attributes = _windows(values, values["rank"])
        attributes |= {
            name: values[name] for name in ("ceil_mode", "count_include_pad", "storage_order") if values.get(name)
        }
        outputs = 2 if values.get("indices") else 1
        made = net.node(operator, [source], outputs, **attributes)
        return net.node("Relu", [made]) if values["then"] == "relu" else made

    return add


def _unary(operator: str, **attributes: str) -> Callable[[Net, Values], str]:
    """`attributes`: of the node -> the value's name."""

    def add(net: Net, values: Values) -> str:
        source = net.source(values["source"], *_map(values))
        return net.node(
            operator, [source], **{name: values[key] for name, key in attributes.items() if values[key] is not None}
        )

    return add


def _with_integers(operator: str, key: str) -> Callable[[Net, Values], str]:
    """Reshape, Squeeze, Unsqueeze: the second input says how."""

    def add(net: Net, values: Values) -> str:
        shape = (1, CHANNELS, 1, 6) if operator == "Squeeze" else (CHANNELS, 5, 6)
        source = (
            net.source(values["source"], *shape[-3:])
            if operator != "Squeeze"
            else net.source(values["source"], 1, CHANNELS * 6, 1)
        )
        inputs = [source, *([net.constant(np.array(values[key], np.int64))] if values[key] is not None else [])]
        return net.node(operator, inputs, **({"allowzero": 1} if values.get("allowzero") else {}))

    return add


def _transpose(net: Net, values: Values) -> str:
    perm = values["perm"]
    rank = len(perm) if perm else 4
    source = net.source(
        values["source"], *{2: (CHANNELS * 6, 1), 3: (CHANNELS, 12), 4: (CHANNELS, 5, 6), 5: (CHANNELS, 2, 3, 4)}[rank]
    )
    if rank == 2:
        source = net.node("Flatten", [source])
    return net.node("Transpose", [source], **({"perm": perm} if perm else {}))


WIDTHS = (CHANNELS, 1, 17, 32)  # kernels take 16 or 32 channels at a time
WINDOW: Space = {
    "kernel": (3, 1, 2, 5),
    "stride": (1, 2),
    "pads": PADS,
    "source": SOURCES,
    "rank": (2, 1, 3),
    "behind": BEHIND,
    "channels": WIDTHS,
}
POOL: Space = {**WINDOW, "stride": (2, 1, 3), "ceil_mode": (0, 1), "size": (10, 9, 11), "then": ("", "relu")}
PAIR: Space = {
    "other": (
        "same",
        "channels",
        "map",
        "row",
        "one",
        "itself",
        *(f"stored {shape}" for shape in ("scalar", "one", "row", "channels", "map")),
    ),
    "sign": (SIGNED, RELU, NEGATIVE),
    "turned": (False, True),
    "source": SOURCES,
    "behind": BEHIND,
    "channels": WIDTHS,
}
SOURCED: Space = {"source": SOURCES, "behind": BEHIND}
STORED: Mapping[str, Sequence[Sequence[Any]]] = {
    "Clip": ([None, 1.0], [0.0, 1.0], [-0.5, 0.5], [0.2], [0.0], [[0.0]], [None, -0.2]),
    "Pow": ([2.0], [3.0], [1.0]),
    "Div": ([2.0], [-0.5], [[[1.0]], [[2.0]], [[3.0]], [[-4.0]]]),
    "Sub": ([1.0], [[[1.0]], [[2.0]], [[3.0]], [[-4.0]]]),
    "Max": ([0.0], [0.3], [-1.0], [0.0, 0.5]),
    "Min": ([1.0], [0.3], [-0.5]),
    "PRelu": ([0.25], [[[0.1]], [[2.0]], [[-0.5]], [[0.0]]]),
}
ATTRIBUTES: Mapping[str, Space] = {
    **{name: {} for name in ("Abs", "Erf", "Exp", "HardSwish", "Identity", "Neg", "Relu", "Softplus", "Tanh")},
    "DepthToSpace": {"blocksize": (2,), "mode": ("DCR", "CRD")},
    "Elu": {"alpha": (1.0, 0.5)},
    "HardSigmoid": {"alpha": (None, 0.5), "beta": (None, 0.1)},
    "LogSoftmax": {"axis": (-1, 1, 2)},
    "ReduceMean": {"axes": ([2, 3], [1], [-1], [0]), "keepdims": (1, 0)},
    "ReduceMax": {"axes": ([2, 3], [1]), "keepdims": (1, 0)},
    "Softmax": {"axis": (-1, 1, 2, 3, None)},
    "SpaceToDepth": {"blocksize": (2,)},
}
MIXED: Mapping[str, Operator] = {
    **{name: Operator({**space, **SOURCED}, mixed.unary(name, *space)) for name, space in ATTRIBUTES.items()},
    **{name: Operator({"stored": values, **SOURCED}, mixed.constants(name)) for name, values in STORED.items()},
    **{
        f"{name} of two": Operator({"sign": (SIGNED, RELU), **SOURCED}, mixed.computed(name))
        for name in ("Sub", "Max", "Min")
    },
    **{
        f"{name}Normalization": Operator(SOURCED, mixed.normalization(f"{name}Normalization"))
        for name in ("Batch", "Instance", "Layer")
    },
    "Expand": Operator({"to": ([BATCH, CHANNELS, 3, 5], [1, 1, 3, 1]), **SOURCED}, mixed.expand),
    "Gather": Operator(
        {"axis": (1, 0, 2, -1), "indices": ([0, 2, 2], [1], 2, [[0, 1], [3, 2]], [-1]), **SOURCED}, mixed.gather
    ),
    "Pad": Operator({"mode": ("constant", "reflect", "edge"), "value": (None, 0.0, 0.7, -2.0), **SOURCED}, mixed.pad),
    "Resize": Operator(
        {
            "mode": ("nearest", "linear", "cubic"),
            "coordinates": ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"),
            "nearest": ("floor", "round_prefer_floor", "ceil"),
            "by": ("scales", "sizes"),
            "scales": ((2.0, 2.0), (0.5, 1.5), (1.0, 1.0)),
            **SOURCED,
        },
        mixed.resize,
    ),
    "Slice": Operator(
        {"axis": (1, 2, 3, -1, 0), "range": ((0, 2, 1), (1, 9999, 2), (-1, -9999, -1), (-3, -1, 1)), **SOURCED},
        mixed.slice_,
    ),
    "Split": Operator({"axis": (1, 0, 2, 3, -1), "then": ("read", "joined"), **SOURCED}, mixed.split),
    "Where": Operator(
        {"mask": ("stored", "compared"), "other": ("computed", "scalar", "map"), "turned": (False, True), **SOURCED},
        mixed.where,
    ),
}
OPERATORS: Mapping[str, Operator] = {
    "Conv": Operator(
        {**WINDOW, "dilation": (1, 2), "group": ("one", "two", "each"), "bias": ("stored", "none", "computed")}, _conv
    ),
    "ConvTranspose": Operator(
        {
            **WINDOW,
            "dilation": (1, 2),
            "group": ("one", "two", "each"),
            "bias": ("stored", "none"),
            "output_padding": (False, True),
        },
        _conv_transpose,
    ),
    "Gemm": Operator(
        {
            "transA": (0, 1),
            "transB": (1, 0),
            "alpha": (1.0, 0.5, -2.0, 0.0),
            "beta": (1.0, 0.25, -3.0, 0.0),
            "bias": ("row", "none", "scalar", "one", "row of a matrix", "column", "matrix"),
            "source": SOURCES,
            "behind": BEHIND,
        },
        _gemm,
    ),
    "MatMul": Operator(
        {
            "left": (3, 1, 2, 4),
            "right": (2, 1, 3, 4),
            "stored": ("right", "left", "none"),
            "bias": ("none", "row", "row in front", "column", "one"),
            **SOURCED,
        },
        _matmul,
    ),
    "Add": Operator(PAIR, _arithmetic("Add")),
    "Mul": Operator(PAIR, _arithmetic("Mul")),
    "Concat": Operator(
        {
            "axis": (1, 0, 2, 3, -1, -2, -3),
            "inputs": (2, 1, 3, 4),
            "others": ((SIGNED, RELU), (RELU, CLIP), (NEGATIVE, RELU), (FED, SIGNED)),
            "more": ("none", "twice", "stored", "pooled"),
            "channels": WIDTHS,
            **SOURCED,
        },
        _concat,
    ),
    "AveragePool": Operator(
        {**POOL, "count_include_pad": (0, 1), "dilation": (1, 2), "opset": (17, 19, 21)},
        _pool("AveragePool"),
    ),
    "MaxPool": Operator(
        {**POOL, "dilation": (1, 2), "storage_order": (0, 1), "indices": (False, True)},
        _pool("MaxPool"),
    ),
    "GlobalAveragePool": Operator({"rank": (2, 1, 3), "channels": WIDTHS, **SOURCED}, _unary("GlobalAveragePool")),
    "LeakyRelu": Operator(
        {"alpha": (None, 0.0, 0.1, -0.5, 1.0, 2.0), "rank": (2, 1, 3), "channels": WIDTHS, **SOURCED},
        _unary("LeakyRelu", alpha="alpha"),
    ),
    "Sigmoid": Operator({"rank": (2, 1, 3), "channels": WIDTHS, **SOURCED}, _unary("Sigmoid")),
    "Reshape": Operator(
        {
            "to": (
                [0, -1],
                [0, 0, -1],
                [-1, CHANNELS, 30],
                [0, 2, -1, 6],
                [-1],
                [BATCH, CHANNELS * 30],
                [0, 0, 0, 0],
                [-1, 6],
                [2, 4, CHANNELS, 30],
            ),
            "allowzero": (False, True),
            "source": SOURCES,
            "behind": BEHIND,
        },
        _with_integers("Reshape", "to"),
    ),
    "Flatten": Operator(
        {"axis": (None, 0, 1, 2, 3, 4, -1, -3), "rank": (2, 1, 3), "source": SOURCES, "behind": BEHIND},
        _unary("Flatten", axis="axis"),
    ),
    "Transpose": Operator(
        {
            "perm": (
                [0, 2, 3, 1],
                None,
                [0, 1, 3, 2],
                [0, 3, 1, 2],
                [1, 0, 2, 3],
                [0, 2, 1],
                [2, 1, 0],
                [1, 0],
                [0, 2, 1, 4, 3],
                [0, 2, 3, 4, 1],
            ),
            "source": SOURCES,
            "behind": BEHIND,
        },
        _transpose,
    ),
    "Squeeze": Operator(
        {"axes": ([1], None, [3], [-1], [1, 3], [-3]), "source": SOURCES, "behind": BEHIND},
        _with_integers("Squeeze", "axes"),
    ),
    "Unsqueeze": Operator(
        {"axes": ([2], [1], [-1], [0], [4], [0, 1], [-1, -2], [2, 4]), "source": SOURCES, "behind": BEHIND},
        _with_integers("Unsqueeze", "axes"),
    ),
    **MIXED,
}
