"""What random graphs are made of besides their layers: activations, arithmetic with constants, normalization, and moves
of axes and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

import numpy as np
from onnx import TensorProto

from support.fuzz_draft import Draft, Tensor

Block = Callable[[Draft, Tensor], Optional[Tensor]]  # None: not for a tensor like this one

ROOT_TWO = np.float32(np.sqrt(2))


def activation(d: Draft, x: Tensor) -> Optional[Tensor]:
    """One operator that knows no other value."""
    operator = d.pick(
        (
            "Relu",
            "Relu",
            "LeakyRelu",
            "LeakyRelu",
            "LeakyRelu",
            "Sigmoid",
            "Sigmoid",
            "Tanh",
            "Elu",
            "HardSigmoid",
            "Softplus",
            "Selu",
            "Abs",
            "Neg",
            "Identity",
            "Dropout",
        )
    )
    attributes = {"LeakyRelu": {"alpha": 0.1}, "Elu": {"alpha": 0.5}, "HardSigmoid": {"alpha": 0.2, "beta": 0.5}}.get(
        operator, {}
    )
    return d.node(operator, [x.name], x.shape, **(attributes if d.chance(0.7) else {}))


def clip(d: Draft, x: Tensor) -> Optional[Tensor]:
    """With one limit, both or none, stored as a scalar or as the only value of a vector."""
    lowest, highest = d.pick(
        (
            (0.0, 6.0),
            (0.0, 1.5),
            (-1.0, 1.0),
            (0.0, None),
            (None, 2.0),
            (-0.5, 3.0),
            (None, None),
            (-3e38, 3e38),
            (0.0, 3.4028235e38),
        )
    )
    inputs = [x.name, *("" if limit is None else d.constant(np.float32(limit), "limit") for limit in (lowest, highest))]
    while inputs[-1] == "":
        inputs.pop()
    return d.node("Clip", inputs, x.shape)


def hard_swish(d: Draft, x: Tensor) -> Optional[Tensor]:
    """As one operator (opset 14) or as x * hardsigmoid(x)."""
    if d.opset >= 14 and d.chance(0.6):
        return d.node("HardSwish", [x.name], x.shape)
    gate = d.node("HardSigmoid", [x.name], x.shape, alpha=1 / 6, beta=0.5)
    return d.node("Mul", [x.name, gate.name], x.shape)


def silu(d: Draft, x: Tensor) -> Optional[Tensor]:
    """X * sigmoid(x)."""
    gate = d.node("Sigmoid", [x.name], x.shape)
    return d.node("Mul", _either_order(d, x.name, gate.name), x.shape)


def gelu(d: Draft, x: Tensor) -> Optional[Tensor]:
    """By Erf, by Tanh, or as one operator (opset 20)."""
    form = d.pick(("erf", "erf", "tanh", "operator"))
    if form == "operator" and d.opset >= 20:
        return d.node("Gelu", [x.name], x.shape)
    if form == "tanh":
        cube = d.node("Pow", [x.name, d.constant(np.float32(3))], x.shape)
        inner = d.node(
            "Add", [x.name, d.node("Mul", [cube.name, d.constant(np.float32(0.044715))], x.shape).name], x.shape
        )
        bent = d.node("Tanh", [d.node("Mul", [inner.name, d.constant(np.float32(0.7978845))], x.shape).name], x.shape)
    else:
        bent = d.node("Erf", [d.node("Div", [x.name, d.constant(ROOT_TWO)], x.shape).name], x.shape)
    one = d.node("Add", _either_order(d, bent.name, d.constant(np.float32(1))), x.shape)
    half = d.node("Mul", [x.name, one.name], x.shape)
    return d.node("Mul", _either_order(d, half.name, d.constant(np.float32(0.5))), x.shape)


def scaled(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Arithmetic with a constant on either side, of a random shape that broadcasts."""
    shape = d.pick(_broadcasts(x.shape))
    values = d.normal(*shape) * np.float32(0.3) + np.float32(1)
    operator = d.pick(("Mul", "Mul", "Add", "Add", "Sub", "Div", "Max", "Min"))
    if operator == "Div":
        return d.node("Div", [x.name, d.constant(np.abs(values) + np.float32(0.5))], x.shape)
    return d.node(operator, _either_order(d, x.name, d.constant(values.astype(np.float32))), x.shape)


def root(d: Draft, x: Tensor) -> Optional[Tensor]:
    """sqrt(|x| + 1), or x / sqrt(x^2 + 1), or x^2 once."""
    form = d.pick(("abs", "squares", "power"))
    if form == "power":
        if not d.once("power"):
            return None
        return d.node("Pow", [x.name, d.constant(np.float32(2), "two")], x.shape)
    size = d.node("Abs", [x.name], x.shape) if form == "abs" else d.node("Mul", [x.name, x.name], x.shape)
    result = d.node("Sqrt", [d.node("Add", [size.name, d.constant(np.float32(1))], x.shape).name], x.shape)
    return result if form == "abs" else d.node("Div", [x.name, result.name], x.shape)


def where(d: Draft, x: Tensor) -> Optional[Tensor]:
    """A leaky ReLU by hand: continuous, so that rounding cannot jump."""
    positive = d.node("Greater", [x.name, d.constant(np.float32(0), "zero")], x.shape)
    small = d.node("Mul", [x.name, d.constant(np.float32(0.2))], x.shape)
    return d.node("Where", [positive.name, x.name, small.name], x.shape)


def masked(d: Draft, x: Tensor) -> Optional[Tensor]:
    """What a stored mask of booleans, or one as float, hides becomes 0."""
    mask = d.rng.random(x.shape) > 0.3
    if d.chance(0.5):
        return d.node("Where", [d.constant(mask, "mask"), x.name, d.constant(np.float32(0), "zero")], x.shape)
    return d.node(
        "Mul", [x.name, d.node("Cast", [d.constant(mask, "mask")], x.shape, to=TensorProto.FLOAT).name], x.shape
    )


def cast(d: Draft, x: Tensor) -> Optional[Tensor]:
    """To float, which is nothing, or to half precision and back, or to double and back."""
    kind = d.pick((TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE))
    other = d.node("Cast", [x.name], x.shape, to=kind)
    return other if kind == TensorProto.FLOAT else d.node("Cast", [other.name], x.shape, to=TensorProto.FLOAT)


def residual(d: Draft, x: Tensor) -> Optional[Tensor]:
    """With an earlier tensor of the same shape, or with itself through an activation."""
    others = [other for other in d.pool if other.shape == x.shape and other.name != x.name]
    operator = d.pick(("Add", "Add", "Add", "Mul", "Sub"))
    if operator == "Mul" and not d.once("product", 2):
        return None
    other = d.pick(others) if others else d.node(d.pick(("Relu", "Sigmoid")), [x.name], x.shape)
    return d.node(operator, _either_order(d, x.name, other.name), x.shape)


def twice(d: Draft, x: Tensor) -> Optional[Tensor]:
    """A node that reads one tensor twice."""
    if d.chance(0.5) or not x.shape:
        return d.node("Add", [x.name, x.name], x.shape)
    return d.node("Concat", [x.name, x.name], (2 * x.shape[0], *x.shape[1:]), axis=1) if x.shape[0] < 12 else None


def concat(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Along a random axis, of two, three, or the one tensor; at times with a constant."""
    axis = int(d.rng.integers(len(x.shape)))
    alike = [
        other
        for other in d.pool
        if len(other.shape) == len(x.shape)
        and all(a == b for i, (a, b) in enumerate(zip(other.shape, x.shape)) if i != axis)
    ]
    parts = [x, *(d.pick(alike) for _ in range(int(d.rng.integers(0, 3))) if alike)]
    total = sum(part.shape[axis] for part in parts)
    if total > 24:
        return None
    shown = axis + 1 if d.chance(0.7) else axis - len(x.shape)
    return d.node("Concat", [part.name for part in parts], (*x.shape[:axis], total, *x.shape[axis + 1 :]), axis=shown)


def split(d: Draft, x: Tensor) -> Optional[Tensor]:
    """In two halves that come together again, in the other order or as a gate."""
    axis = next((index for index, size in enumerate(x.shape) if size % 2 == 0), None)
    if axis is None:
        return None
    half = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
    sizes = [d.constant(np.array([half[axis]] * 2, np.int64), "sizes")] if d.opset < 18 or d.chance(0.5) else []
    attributes = {} if sizes else {"num_outputs": 2}
    first, second = d.nodes_of("Split", [x.name, *sizes], [half, half], axis=axis + 1, **attributes)
    if d.chance(0.4):
        return d.node("Mul", [first.name, d.node("Sigmoid", [second.name], half).name], half)
    return d.node("Concat", [second.name, first.name], x.shape, axis=axis + 1)


def sliced(d: Draft, x: Tensor) -> Optional[Tensor]:
    """A piece of one axis, by Slice or Gather, to the end or with a step."""
    axis = int(d.rng.integers(len(x.shape)))
    if x.shape[axis] < 4:
        return None
    form = d.pick(("end", "step", "gather", "index"))
    numbers = {"end": (1, 2**63 - 1, 1), "step": (0, x.shape[axis], 2)}
    if form in numbers:
        start, end, step = numbers[form]
        size = len(range(*slice(start, min(end, x.shape[axis]), step).indices(x.shape[axis])))
        inputs = [x.name, *(d.constant(np.array([value], np.int64), "bound") for value in (start, end, axis + 1, step))]
        return d.node("Slice", inputs, (*x.shape[:axis], size, *x.shape[axis + 1 :]))
    if form == "index":
        if len(x.shape) < 2:
            return None
        return d.node(
            "Gather",
            [x.name, d.constant(np.array(-1, np.int64), "index")],
            (*x.shape[:axis], *x.shape[axis + 1 :]),
            axis=axis + 1,
        )
    order = d.rng.permutation(x.shape[axis])[: x.shape[axis] - 1]
    return d.node(
        "Gather",
        [x.name, d.constant(order.astype(np.int64), "order")],
        (*x.shape[:axis], len(order), *x.shape[axis + 1 :]),
        axis=axis + 1,
    )


def padded(d: Draft, x: Tensor) -> Optional[Tensor]:
    """With zeros, a value, or what lies at the edge."""
    axis, mode = len(x.shape) - 1, d.pick(("constant", "constant", "edge", "reflect"))
    if x.shape[axis] < 3 or (mode != "constant" and len(x.shape) < 2):
        return None
    pads = np.zeros(2 * (len(x.shape) + 1), np.int64)
    pads[len(x.shape)], pads[-1] = 1, 1
    inputs = [x.name, d.constant(pads, "pads")]
    if mode == "constant" and d.chance(0.6):
        inputs.append(d.constant(np.float32(d.pick((0.0, 0.5))), "fill"))
    return d.node("Pad", inputs, (*x.shape[:axis], x.shape[axis] + 2), mode=mode)


def tiled(d: Draft, x: Tensor) -> Optional[Tensor]:
    """One axis twice, by Tile or by Expand of an axis of one."""
    if d.chance(0.5):
        if x.size > 128:
            return None
        repeats = [1] * len(x.shape) + [2]
        return d.node(
            "Tile", [x.name, d.constant(np.array(repeats, np.int64), "repeats")], (*x.shape[:-1], 2 * x.shape[-1])
        )
    mean = reduced(d, x, keeps=True)
    return d.node("Expand", [mean.name, d.constant(np.array([1, *x.shape], np.int64), "shape")], x.shape)


def reduced(
    d: Draft, x: Tensor, keeps: bool = False, operator: str = "ReduceMean", axis: Optional[int] = None
) -> Tensor:
    """Over one axis; its axes are an attribute before opset 18, an input from there on."""
    chosen = len(x.shape) - 1 if axis is None else axis
    shape = (*x.shape[:chosen], *([1] if keeps else []), *x.shape[chosen + 1 :])
    shown = chosen + 1 if d.chance(0.5) else chosen - len(x.shape)
    if d.opset >= 18:
        return d.node(operator, [x.name, d.constant(np.array([shown], np.int64), "axes")], shape, keepdims=int(keeps))
    return d.node(operator, [x.name], shape, keepdims=int(keeps), axes=[shown])


def reduction(d: Draft, x: Tensor) -> Optional[Tensor]:
    """A mean, a largest value or a norm."""
    if len(x.shape) < 2:
        return None
    return reduced(
        d,
        x,
        d.chance(0.3),
        d.pick(("ReduceMean", "ReduceMean", "ReduceMax", "ReduceL2")),
        int(d.rng.integers(len(x.shape))),
    )


def softmax(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Over any axis of an image."""
    axis = int(d.rng.integers(len(x.shape)))
    return d.node("Softmax", [x.name], x.shape, axis=axis + 1 if d.chance(0.5) else axis - len(x.shape))


def layer_norm(d: Draft, x: Tensor) -> Optional[Tensor]:
    """As one operator (opset 17), or by hand as older exporters write it."""
    size = x.shape[-1]
    if size < 3:
        return None
    gain, shift = (
        d.constant(d.normal(size, scale=0.2) + np.float32(1), "gain"),
        d.constant(d.normal(size, scale=0.2), "shift"),
    )
    if d.opset >= 17 and d.chance(0.6):
        return d.node(
            "LayerNormalization", [x.name, gain, shift], x.shape, axis=-1, epsilon=float(d.pick((1e-5, 1e-6, 1e-12)))
        )
    mean = reduced(d, x, keeps=True)
    centred = d.node("Sub", [x.name, mean.name], x.shape)
    squares = d.node("Pow", [centred.name, d.constant(np.float32(2))], x.shape)
    variance = reduced(d, squares, keeps=True)
    deviation = d.node(
        "Sqrt",
        [d.node("Add", [variance.name, d.constant(np.float32(d.pick((1e-5, 1e-6, 1e-8))))], variance.shape).name],
        variance.shape,
    )
    normal = d.node("Div", [centred.name, deviation.name], x.shape)
    return d.node("Add", [d.node("Mul", [normal.name, gain], x.shape).name, shift], x.shape)


def response_norm(d: Draft, x: Tensor) -> Optional[Tensor]:
    """ConvNeXt V2's global response normalization, over channels that come first."""
    if len(x.shape) < 2:
        return None
    norm = reduced(d, x, True, "ReduceL2", len(x.shape) - 1)
    mean = reduced(d, norm, True, "ReduceMean", 0)
    share = d.node(
        "Div", [norm.name, d.node("Add", [mean.name, d.constant(np.float32(1e-6))], mean.shape).name], norm.shape
    )
    gained = d.node(
        "Mul",
        [
            d.node("Mul", [x.name, share.name], x.shape).name,
            d.constant(d.normal(x.shape[0], *[1] * (len(x.shape) - 1))),
        ],
        x.shape,
    )
    return d.node("Add", [x.name, gained.name], x.shape)


def transposed(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Any order of the axes behind the batch."""
    if len(x.shape) < 2:
        return None
    order = [int(axis) for axis in d.rng.permutation(len(x.shape))]
    return d.node("Transpose", [x.name], [x.shape[axis] for axis in order], perm=[0, *(axis + 1 for axis in order)])


def reshaped(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Neighbouring axes joined or one axis cut in two, with -1 or 0 for the batch, or with a batch that the graph
    computes.
    """
    if len(x.shape) < 2 and x.shape[0] % 2:
        return None
    if len(x.shape) >= 2 and d.chance(0.6):
        at = int(d.rng.integers(len(x.shape) - 1))
        shape: tuple[int, ...] = (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])
    elif (
        len(x.shape) < 4 and (at := next((i for i, size in enumerate(x.shape) if size % 2 == 0 and size > 2), -1)) >= 0
    ):
        shape = (*x.shape[:at], 2, x.shape[at] // 2, *x.shape[at + 1 :])
    else:
        return None
    return reshape_to(d, x, shape)


def reshape_to(d: Draft, x: Tensor, shape: Sequence[int]) -> Tensor:
    """The batch stays, in one of the three ways in which exporters say so."""
    form = d.pick(("-1", "0", "computed"))
    if form != "computed":
        return d.node("Reshape", [x.name, d.constant(np.array([int(form), *shape], np.int64), "shape")], shape)
    size = batch_of(d, x)
    joined = d.node("Concat", [size, d.constant(np.array(shape, np.int64), "rest")], (), axis=0)
    return d.node("Reshape", [x.name, joined.name], shape)


def batch_of(d: Draft, x: Tensor) -> str:
    """The batch as a vector of one, computed from a tensor's shape."""
    shape = d.node("Shape", [x.name], ())
    if d.chance(0.5):
        index = d.constant(np.array(0, np.int64), "index")
        axes = d.constant(np.array([0], np.int64), "axes")
        return d.node("Unsqueeze", [d.node("Gather", [shape.name, index], (), axis=0).name, axes], ()).name
    bounds = [d.constant(np.array([value], np.int64), "bound") for value in (0, 1)]
    return d.node("Slice", [shape.name, *bounds], ()).name


def flattened(d: Draft, x: Tensor) -> Optional[Tensor]:
    """By Flatten."""
    return d.node("Flatten", [x.name], (x.size,), axis=1) if x.size <= 256 else None


def unsqueezed(d: Draft, x: Tensor) -> Optional[Tensor]:
    """An axis of one that comes, and at times goes again behind an activation."""
    if len(x.shape) > 3:
        return None
    axis = int(d.rng.integers(len(x.shape) + 1))
    axes = d.constant(np.array([axis + 1], np.int64), "axes")
    wider = d.node("Unsqueeze", [x.name, axes], (*x.shape[:axis], 1, *x.shape[axis:]))
    if d.chance(0.4):
        return wider
    return d.node(
        "Squeeze", [d.node(d.pick(("Relu", "LeakyRelu", "Sigmoid")), [wider.name], wider.shape).name, axes], x.shape
    )


def squeezed(d: Draft, x: Tensor) -> Optional[Tensor]:
    """An axis of one goes."""
    axis = next((index for index, size in enumerate(x.shape) if size == 1), None)
    if axis is None or len(x.shape) < 2:
        return None
    return d.node(
        "Squeeze", [x.name, d.constant(np.array([axis + 1], np.int64), "axes")], (*x.shape[:axis], *x.shape[axis + 1 :])
    )


def _either_order(d: Draft, first: str, second: str) -> list[str]:
    return [first, second] if d.chance(0.6) else [second, first]


def _broadcasts(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of constants that broadcast onto [n, *shape]."""
    found: list[tuple[int, ...]] = [(), (1,), (shape[-1],), (1, *shape)]
    if len(shape) > 1:
        found += [(shape[0], *[1] * (len(shape) - 1)), (1, shape[0], *[1] * (len(shape) - 1)), tuple(shape)]
    return found


ELEMENTWISE: tuple[Block, ...] = (
    activation,
    activation,
    clip,
    hard_swish,
    silu,
    gelu,
    scaled,
    scaled,
    root,
    where,
    masked,
    cast,
    residual,
    residual,
    twice,
)
SHAPES: tuple[Block, ...] = (
    concat, split, sliced, padded, tiled, reduction, softmax, layer_norm, response_norm, transposed,
    reshaped, flattened, unsqueezed, unsqueezed, squeezed,
)  # fmt: skip
