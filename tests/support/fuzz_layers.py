"""The layers of random graphs: convolutions, products, pooling, attention and what stands around them in real
models.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np

from support.fuzz_blocks import Block, batch_of, reduced, reshape_to
from support.fuzz_draft import Draft, Tensor


def convolution(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Of one to three dimensions: any stride, padding, dilation and group; with or without bias, kernel_shape and what
    follows.
    """
    if len(x.shape) < 2 or min(x.shape[1:]) < 3 or len(x.shape) > 4:
        return None
    channels, spatial = x.shape[0], x.shape[1:]
    group = int(d.pick([1, 1, 1, channels, *([2] if channels % 2 == 0 else [])]))
    out = group * int(d.rng.integers(1, 3)) if group > 1 else int(d.pick((4, 6, 8)))
    size, stride = int(d.pick((1, 3, 3, 2))), int(d.pick((1, 1, 2)))
    dilation = int(d.pick((1, 1, 1, 2))) if size == 3 else 1
    attributes, result = _window(d, spatial, size, stride, dilation)
    if group > 1:
        attributes["group"] = group
    if d.chance(0.6):
        attributes["kernel_shape"] = [size] * len(spatial)
    fan_in = channels // group * size ** len(spatial)
    inputs = [x.name, d.weight(out, channels // group, *[size] * len(spatial), fan_in=fan_in)]
    if d.chance(0.6):
        inputs.append(d.constant(d.normal(out, scale=0.2), "bias"))
    return _behind(d, d.node("Conv", inputs, (out, *result), **attributes))


def transposed_convolution(d: Draft, x: Tensor) -> Optional[Tensor]:
    """What a decoder upsamples with."""
    if len(x.shape) not in (2, 3) or x.size > 1024:
        return None
    channels, spatial = x.shape[0], x.shape[1:]
    group = int(d.pick([1, 1, 1, *([2] if channels % 2 == 0 else [])]))
    each = int(d.pick((2, 3, 4)))
    size, stride, pad = d.pick(((2, 2, 0), (3, 1, 1), (4, 2, 1), (3, 2, 1)))
    extra = int(d.pick((0, 1))) if (size, stride) == (3, 2) else 0
    attributes: dict[str, Any] = {"strides": [stride] * len(spatial), "pads": [pad] * 2 * len(spatial), "group": group}
    if extra:
        attributes["output_padding"] = [extra] * len(spatial)
    if d.chance(0.6):
        attributes["kernel_shape"] = [size] * len(spatial)
    fan_in = max(1, channels // group * size ** len(spatial) // stride ** len(spatial))
    inputs = [x.name, d.weight(channels, each, *[size] * len(spatial), fan_in=fan_in)]
    if d.chance(0.6):
        inputs.append(d.constant(d.normal(each * group, scale=0.2), "bias"))
    shape = (each * group, *((axis - 1) * stride + size - 2 * pad + extra for axis in spatial))
    return _behind(d, d.node("ConvTranspose", inputs, shape, **attributes))


def gemm(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Over vectors, or over tokens that become rows; with every form of bias, alpha, beta and either order of the
    weight.
    """
    tokens = len(x.shape) == 2
    if len(x.shape) > 2 or x.shape[-1] < 3:
        return None
    size, out = x.shape[-1], int(d.pick((5, 8, 10)))
    rows = d.node("Reshape", [x.name, d.constant(np.array([-1, size], np.int64), "rows")], (size,)) if tokens else x
    attributes: dict[str, Any] = {"transB": 1} if d.chance(0.6) else {}
    if d.chance(0.2):
        attributes.update(alpha=float(d.pick((0.5, 2.0))))
    inputs = [rows.name, d.weight(*((out, size) if attributes.get("transB") else (size, out)), fan_in=size)]
    if not tokens and d.chance(0.15):
        inputs[0] = d.node("Transpose", [rows.name], (), perm=[1, 0]).name
        attributes["transA"] = 1
    if d.chance(0.7):
        shape = d.pick(((out,), (out,), (out,), (1,), (1, out), ()))
        inputs.append(d.constant(d.normal(*shape, scale=0.2), "bias"))
        if d.chance(0.2):
            attributes["beta"] = 0.5
    result = d.node("Gemm", inputs, (out,), **attributes)
    if tokens:
        result = d.node(
            "Reshape", [result.name, d.constant(np.array([-1, x.shape[0], out], np.int64), "tokens")], (x.shape[0], out)
        )
    return _behind(d, result)


def product(d: Draft, x: Tensor) -> Optional[Tensor]:
    """By a stored matrix on the right or on the left, by a batch of them, or by a vector."""
    size, form = x.shape[-1], d.pick(("right", "right", "right", "left", "batch", "vector"))
    if size < 3:
        return None
    out = int(d.pick((6, 8, 12)))
    if form == "left" and len(x.shape) >= 2 and x.shape[-2] >= 2:
        rows = x.shape[-2]
        return _behind(
            d, d.node("MatMul", [d.weight(out, rows, fan_in=rows), x.name], (*x.shape[:-2], out, size)), bias=False
        )
    if form == "batch" and len(x.shape) >= 3:
        return _behind(
            d, d.node("MatMul", [x.name, d.weight(x.shape[-3], size, out, fan_in=size)], (*x.shape[:-1], out))
        )
    if form == "vector" and len(x.shape) >= 2:
        return d.node("MatMul", [x.name, d.weight(size, fan_in=size)], x.shape[:-1])
    return _behind(d, d.node("MatMul", [x.name, d.weight(size, out, fan_in=size)], (*x.shape[:-1], out)))


def attention(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Self-attention with one head or two, with every way to write a mask."""
    if len(x.shape) != 2 or x.shape[-1] % 4 or x.shape[0] > 16:
        return None
    tokens, width = x.shape
    heads = int(d.pick((1, 2, 2)))
    parts = [_heads(d, d.node("MatMul", [x.name, d.weight(width, width)], x.shape), heads) for _ in range(3)]
    mixed = attend(d, (parts[0], parts[1], parts[2]), masks=True)
    if heads > 1:
        mixed = d.node("Transpose", [mixed.name], (tokens, heads, width // heads), perm=[0, 2, 1, 3])
        mixed = reshape_to(d, mixed, (tokens, width))
    out = d.node("MatMul", [mixed.name, d.weight(width, width)], x.shape)
    return d.node("Add", [x.name, out.name], x.shape) if d.chance(0.7) else out


def learned_query(d: Draft, x: Tensor) -> Optional[Tensor]:
    """A stored query, expanded over the batch and projected: what depends on the input's shape alone."""
    if len(x.shape) != 2 or x.shape[-1] % 4:
        return None
    count, width = 3, x.shape[1]
    query = d.constant(d.normal(1, count, width), "query")
    rest = d.constant(np.array([count, width], np.int64), "rest")
    shape = d.node("Concat", [batch_of(d, x), rest], (), axis=0)
    spread = d.node("Expand", [query, shape.name], (count, width))
    asked = d.node("MatMul", [spread.name, d.weight(width, width)], (count, width))
    keys = d.node("MatMul", [x.name, d.weight(width, width)], x.shape)
    return attend(d, (asked, keys, x), masks=False)


def attend(d: Draft, parts: tuple[Tensor, Tensor, Tensor], masks: bool) -> Tensor:
    """softmax(q k^T / sqrt(width) + mask) v, the mask over the last two axes."""
    query, key, value = parts
    order = [*range(len(key.shape) - 1), len(key.shape), len(key.shape) - 1]
    turned = d.node("Transpose", [key.name], (*key.shape[:-2], key.shape[-1], key.shape[-2]), perm=order)
    shape = (*query.shape[:-1], key.shape[-2])
    scores = d.node("MatMul", [query.name, turned.name], shape)
    divides = d.chance(0.5)
    factor = math.sqrt(query.shape[-1])
    scores = d.node(
        "Div" if divides else "Mul", [scores.name, d.constant(np.float32(factor if divides else 1 / factor))], shape
    )
    if masks:
        scores = _mask(d, scores)
    weights = d.node("Softmax", [scores.name], shape, axis=-1)
    return d.node("MatMul", [weights.name, value.name], (*shape[:-1], value.shape[-1]))


def pooling(d: Draft, x: Tensor) -> Optional[Tensor]:
    """MaxPool and AveragePool with every attribute that changes what a border counts as."""
    if len(x.shape) not in (2, 3, 4) or min(x.shape[1:]) < 3:
        return None
    spatial, operator = x.shape[1:], d.pick(("MaxPool", "AveragePool"))
    size, stride = d.pick(((2, 2), (3, 2), (3, 1)))
    pad = int(d.pick((0, 0, 1))) if size == 3 else 0
    ceil = d.chance(0.3)
    attributes: dict[str, Any] = {
        "kernel_shape": [size] * len(spatial),
        "strides": [stride] * len(spatial),
        "pads": [pad] * 2 * len(spatial),
    }
    if ceil:
        attributes["ceil_mode"] = 1
    if operator == "AveragePool" and d.chance(0.5):
        attributes["count_include_pad"] = 1
    result = []
    for axis in spatial:
        steps = (axis + 2 * pad - size) / stride
        count = math.ceil(steps) + 1 if ceil else math.floor(steps) + 1
        result.append(count - 1 if ceil and (count - 1) * stride >= axis + pad else count)
    return d.node(operator, [x.name], (x.shape[0], *result), **attributes)


def global_pooling(d: Draft, x: Tensor) -> Optional[Tensor]:
    """To a map of 1, flattened, squeezed or left as it is."""
    if len(x.shape) < 2:
        return None
    ones = [1] * (len(x.shape) - 1)
    pooled = d.node(
        d.pick(("GlobalAveragePool", "GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool")),
        [x.name],
        (x.shape[0], *ones),
    )
    form = d.pick(("Flatten", "Squeeze", "Reshape", "left"))
    if form == "Flatten":
        return d.node("Flatten", [pooled.name], x.shape[:1])
    if form == "Squeeze":
        return d.node(
            "Squeeze", [pooled.name, d.constant(np.arange(2, 2 + len(ones), dtype=np.int64), "axes")], x.shape[:1]
        )
    return reshape_to(d, pooled, x.shape[:1]) if form == "Reshape" else pooled


def excitation(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Squeeze-and-excitation: a gate that the pooled map computes."""
    if len(x.shape) < 2 or len(x.shape) > 4:
        return None
    ones = [1] * (len(x.shape) - 1)
    channels, less = x.shape[0], max(2, x.shape[0] // 2)
    pooled = d.node("GlobalAveragePool", [x.name], (channels, *ones))
    squeezed = d.node(
        "Relu", [d.node("Conv", [pooled.name, d.weight(less, channels, *ones)], (less, *ones)).name], (less, *ones)
    )
    gate = d.node(
        "Conv",
        [squeezed.name, d.weight(channels, less, *ones), d.constant(d.normal(channels), "bias")],
        (channels, *ones),
    )
    gate = d.node(d.pick(("Sigmoid", "HardSigmoid")), [gate.name], gate.shape)
    return d.node("Mul", [x.name, gate.name] if d.chance(0.7) else [gate.name, x.name], x.shape)


def batch_normalization(d: Draft, x: Tensor) -> Optional[Tensor]:
    """In evaluation mode."""
    size = x.shape[0]
    spread = [
        d.normal(size, scale=0.2) + np.float32(1),
        d.normal(size, scale=0.2),
        d.normal(size, scale=0.2),
        np.abs(d.normal(size)) + np.float32(0.5),
    ]
    return d.node("BatchNormalization", [x.name, *(d.constant(values, "statistic") for values in spread)], x.shape)


def instance_normalization(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Each map by its own mean and variance."""
    if len(x.shape) < 2 or int(np.prod(x.shape[1:])) < 4:
        return None
    gain, shift = d.normal(x.shape[0], scale=0.2) + np.float32(1), d.normal(x.shape[0], scale=0.2)
    return d.node("InstanceNormalization", [x.name, d.constant(gain), d.constant(shift)], x.shape)


def resized(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Twice as large, nearest or bilinear, by scales or by sizes."""
    if len(x.shape) != 3 or x.size > 600:
        return None
    mode = d.pick(("nearest", "linear"))
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": (
            "asymmetric" if mode == "nearest" else d.pick(("half_pixel", "align_corners"))
        ),
    }
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    scales = d.constant(np.array([1, 1, 2, 2], np.float32), "scales")
    return d.node("Resize", [x.name, "", scales], (x.shape[0], 2 * x.shape[1], 2 * x.shape[2]), **attributes)


def slopes(d: Draft, x: Tensor) -> Optional[Tensor]:
    """PRelu with a slope for each channel."""
    return d.node(
        "PRelu",
        [x.name, d.constant(np.abs(d.normal(x.shape[0], *[1] * (len(x.shape) - 1), scale=0.2)), "slope")],
        x.shape,
    )


def tokens(d: Draft, x: Tensor) -> Optional[Tensor]:
    """A map becomes a sequence of its pixels."""
    if len(x.shape) != 3 or x.shape[1] * x.shape[2] > 64:
        return None
    flat = reshape_to(d, x, (x.shape[0], x.shape[1] * x.shape[2]))
    return d.node("Transpose", [flat.name], (flat.shape[1], flat.shape[0]), perm=[0, 2, 1])


def bottleneck(d: Draft, x: Tensor) -> Optional[Tensor]:
    """Two convolutions around an activation, and the sum with what came in."""
    if len(x.shape) != 3 or x.shape[0] > 12:
        return None
    channels = x.shape[0]
    y = Tensor(x.name, x.shape)
    for index in range(2):
        y = d.node(
            "Conv", [y.name, d.weight(channels, channels, 3, 3, fan_in=9 * channels)], x.shape, pads=[1, 1, 1, 1]
        )
        y = batch_normalization(d, y) or y if d.chance(0.5) else y
        y = d.node("Relu", [y.name], x.shape) if index == 0 else y
    total = d.node("Add", [x.name, y.name] if d.chance(0.5) else [y.name, x.name], x.shape)
    return d.node("Relu", [total.name], x.shape) if d.chance(0.6) else total


def head(d: Draft, x: Tensor) -> Tensor:
    """Ten scores, by what classifiers end with."""
    if len(x.shape) >= 2 and d.chance(0.6):
        ones = [1] * (len(x.shape) - 1)
        pooled = d.node("GlobalAveragePool", [x.name], (x.shape[0], *ones))
        x = d.node("Flatten", [pooled.name], x.shape[:1])
    while len(x.shape) > 1:
        x = reduced(d, x)
    bias = [d.constant(d.normal(10, scale=0.2), "bias")] if d.chance(0.7) else []
    if d.chance(0.6) or not bias:
        return d.node("Gemm", [x.name, d.weight(10, x.shape[0]), *bias], (10,), transB=1)
    return d.node(
        "Add", [d.node("MatMul", [x.name, d.weight(x.shape[0], 10, fan_in=x.shape[0])], (10,)).name, *bias], (10,)
    )


def _behind(d: Draft, x: Tensor, bias: bool = True) -> Tensor:
    """What often stands right behind a layer and is fused into it."""
    if bias and d.nodes[-1].op_type == "MatMul" and d.chance(0.5):
        values = d.constant(d.normal(x.shape[-1], scale=0.2), "bias")
        x = d.node("Add", [x.name, values] if d.chance(0.7) else [values, x.name], x.shape)
    if d.chance(0.25):
        x = batch_normalization(d, x) or x
    form = d.pick(("Relu", "Clip", "", "", ""))
    if form == "Clip":
        return d.node("Clip", [x.name, d.constant(np.float32(0), "zero"), d.constant(np.float32(6), "six")], x.shape)
    return d.node("Relu", [x.name], x.shape) if form else x


def _window(
    d: Draft, spatial: tuple[int, ...], size: int, stride: int, dilation: int
) -> tuple[dict[str, Any], list[int]]:
    """Attributes of a convolution's window, and the axes that it gives."""
    covered = dilation * (size - 1) + 1
    attributes: dict[str, Any] = {"strides": [stride] * len(spatial)}
    if d.chance(0.15) and dilation == 1:
        attributes["auto_pad"] = d.pick(("SAME_UPPER", "SAME_LOWER"))
        return attributes, [math.ceil(axis / stride) for axis in spatial]
    least = max(0, covered - min(spatial))
    before = max(covered // 2 if d.chance(0.7) else 0, least)
    after = before if d.chance(0.8) else before + 1
    attributes["pads"] = [before] * len(spatial) + [after] * len(spatial)
    if dilation > 1:
        attributes["dilations"] = [dilation] * len(spatial)
    return attributes, [(axis + before + after - covered) // stride + 1 for axis in spatial]


def _heads(d: Draft, x: Tensor, heads: int) -> Tensor:
    if heads == 1:
        return x
    tokens, width = x.shape
    cut = reshape_to(d, x, (tokens, heads, width // heads))
    return d.node("Transpose", [cut.name], (heads, tokens, width // heads), perm=[0, 2, 1, 3])


def _mask(d: Draft, scores: Tensor) -> Tensor:
    form = d.pick(("none", "none", "infinite", "least", "finite", "where"))
    rows, columns = scores.shape[-2:]
    hidden = np.triu(np.ones((rows, columns), bool), 1)
    if form == "none":
        return scores
    if form == "where":
        low = d.constant(np.float32(d.pick((-np.inf, -1e4, np.finfo(np.float32).min))), "low")
        return d.node("Where", [d.constant(hidden, "hidden"), low, scores.name], scores.shape)
    value = {"infinite": -np.inf, "least": float(np.finfo(np.float32).min), "finite": -1e4}[form]
    return d.node(
        "Add",
        [scores.name, d.constant(np.where(hidden, np.float32(value), np.float32(0)).astype(np.float32), "mask")],
        scores.shape,
    )


LAYERS: tuple[Block, ...] = (
    *[convolution] * 3, *[transposed_convolution] * 2, *[gemm] * 2, *[product] * 2, attention, learned_query,
    *[pooling] * 4, global_pooling, excitation, batch_normalization, instance_normalization, resized, slopes, tokens,
    bottleneck,
)  # fmt: skip
