"""Operators in float64 that onnx's own reference lacks, or computes wrongly, as of onnx 1.23.

It has QuantizeLinear from opset 19 on; at opset 13 its BatchNormalization takes statistics of the batch; GlobalMaxPool
keeps one value of all channels; ConvTranspose fails with groups, and pooling over volumes reads beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference.op_run import OpRun

Array = npt.NDArray[Any]
Ints = Optional[Sequence[int]]


class QuantizeLinear(OpRun):
    """y = saturate(round(x / scale) + zero_point), halves to even."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, zero_point: Optional[Array] = None, axis: int = 1, **_: Any) -> tuple[Array]:
        zero = np.array(0, np.uint8) if zero_point is None else zero_point
        limits = np.iinfo(zero.dtype)
        levels = np.rint(x.astype(np.float64) / _along(scale, x.ndim, axis)) + _along(zero, x.ndim, axis)
        return (np.clip(levels, limits.min, limits.max).astype(zero.dtype),)


class DequantizeLinear(OpRun):
    """x = (y - zero_point) * scale."""

    op_domain = ""

    def _run(self, y: Array, scale: Array, zero_point: Optional[Array] = None, axis: int = 1, **_: Any) -> tuple[Array]:
        zero = np.float64(0) if zero_point is None else _along(zero_point, y.ndim, axis)
        return ((y.astype(np.float64) - zero) * _along(scale, y.ndim, axis),)


class BatchNormalization(OpRun):
    """In evaluation mode."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        mean: Array,
        variance: Array,
        epsilon: Optional[float] = None,
        **_: Any,
    ) -> tuple[Array]:
        gain, moved, middle, spread = (
            _along(values, x.ndim, 1) if x.ndim > 1 else values for values in (scale, shift, mean, variance)
        )
        return (
            (gain * (x - middle) / np.sqrt(spread + (1e-5 if epsilon is None else epsilon)) + moved).astype(x.dtype),
        )


class GlobalMaxPool(OpRun):
    """The largest value of each channel."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class Conv(OpRun):
    """Of any number of dimensions."""

    op_domain = ""

    def _run(
        self, x: Array, w: Array, b: Optional[Array] = None, *, auto_pad: Optional[str] = None,
        dilations: Ints = None, group: Optional[int] = None, kernel_shape: Ints = None, pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:  # fmt: skip
        del kernel_shape
        rank, groups = x.ndim - 2, group or 1
        steps, apart = list(strides or [1] * rank), list(dilations or [1] * rank)
        covered = [gap * (size - 1) + 1 for gap, size in zip(apart, w.shape[2:])]
        around = _pads(x.shape[2:], covered, steps, pads, auto_pad)
        windows = _windows(np.pad(x, [(0, 0), (0, 0), *around]), covered, steps, apart)
        parts = [
            _product(piece, weight, rank)
            for piece, weight in zip(np.split(windows, groups, axis=1), np.split(w, groups, axis=0))
        ]
        result = np.concatenate(parts, axis=1)
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)


class ConvTranspose(OpRun):
    """A convolution of the input with zeros between its values."""

    op_domain = ""

    def _run(
        self, x: Array, w: Array, b: Optional[Array] = None, *, auto_pad: Optional[str] = None,
        dilations: Ints = None, group: Optional[int] = None, kernel_shape: Ints = None, output_padding: Ints = None,
        output_shape: Ints = None, pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:  # fmt: skip
        del kernel_shape
        rank, groups = x.ndim - 2, group or 1
        steps, apart, extra = (
            list(strides or [1] * rank),
            list(dilations or [1] * rank),
            list(output_padding or [0] * rank),
        )
        wide = np.zeros((*x.shape[:2], *((axis - 1) * step + 1 for axis, step in zip(x.shape[2:], steps))))
        wide[(slice(None), slice(None), *(slice(None, None, step) for step in steps))] = x
        covered = [gap * (size - 1) for gap, size in zip(apart, w.shape[2:])]
        wide = np.pad(wide, [(0, 0), (0, 0), *((reach, reach + more) for reach, more in zip(covered, extra))])
        flipped = np.flip(w, tuple(range(2, w.ndim)))
        weights = np.concatenate([part.swapaxes(0, 1) for part in np.split(flipped, groups, axis=0)])
        windows = _windows(wide, [reach + 1 for reach in covered], [1] * rank, apart)
        parts = [
            _product(piece, weight, rank)
            for piece, weight in zip(np.split(windows, groups, axis=1), np.split(weights, groups, axis=0))
        ]
        result = np.concatenate(parts, axis=1)
        wanted = (
            [axis * step for axis, step in zip(x.shape[2:], steps)]
            if auto_pad in ("SAME_UPPER", "SAME_LOWER")
            else None
        )
        around = _cut_to(result.shape[2:], list(output_shape or [])[-rank:] or wanted, auto_pad) or list(
            pads or [0] * 2 * rank
        )
        cut = tuple(
            slice(before, size - after) for before, after, size in zip(around[:rank], around[rank:], result.shape[2:])
        )
        result = result[(slice(None), slice(None), *cut)]
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)


class MaxPool(OpRun):
    """The largest value of each window; what lies outside of the map does not count."""

    op_domain = ""

    def _run(
        self, x: Array, *, auto_pad: Optional[str] = None, ceil_mode: Optional[int] = None,
        dilations: Ints = None, kernel_shape: Ints = None, pads: Ints = None, storage_order: Optional[int] = None,
        strides: Ints = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        del storage_order  # of Indices, which nobody reads here
        windows = _pooled(x, -np.inf, (kernel_shape, strides, dilations, pads), auto_pad, bool(ceil_mode))
        found = windows.max(axis=tuple(range(x.ndim, windows.ndim)))
        return (found, np.zeros(found.shape, np.int64))[: len(self.onnx_node.output)]


class AveragePool(OpRun):
    """The mean of each window; padding counts with count_include_pad, what ceil_mode adds beyond it never does."""

    op_domain = ""

    def _run(
        self, x: Array, *, auto_pad: Optional[str] = None, ceil_mode: Optional[int] = None,
        count_include_pad: Optional[int] = None, dilations: Ints = None, kernel_shape: Ints = None, pads: Ints = None,
        strides: Ints = None,
    ) -> tuple[Array]:  # fmt: skip
        window = (kernel_shape, strides, dilations, pads)
        over = tuple(range(x.ndim, 2 * x.ndim - 2))
        total = _pooled(x, 0.0, window, auto_pad, bool(ceil_mode)).sum(axis=over)
        count = _pooled(np.ones_like(x), 0.0, window, auto_pad, bool(ceil_mode), 1.0 if count_include_pad else 0.0).sum(
            axis=over
        )
        return (total / count,)


OPERATORS = (
    QuantizeLinear,
    DequantizeLinear,
    BatchNormalization,
    GlobalMaxPool,
    Conv,
    ConvTranspose,
    MaxPool,
    AveragePool,
)


def _along(values: Array, rank: int, axis: int) -> Array:
    wide = np.asarray(values, np.float64)
    if wide.size == 1:
        return wide.reshape(())
    return wide.reshape([-1 if other == axis % rank else 1 for other in range(rank)])


def _product(windows: Array, weight: Array, rank: int) -> Array:
    """[n, c, *out, *kernel] by [m, c, *kernel] to [n, m, *out]."""
    kernel = list(range(2 + rank, 2 + 2 * rank))
    found: Array = np.moveaxis(np.tensordot(windows, weight, axes=([1, *kernel], [1, *range(2, 2 + rank)])), -1, 1)
    return found


def _windows(padded: Array, covered: Sequence[int], steps: Sequence[int], apart: Sequence[int]) -> Array:
    """[n, c, *out, *kernel]: what each window of a padded map sees."""
    rank = padded.ndim - 2
    seen = sliding_window_view(padded, covered, axis=tuple(range(2, 2 + rank)))
    found: Array = seen[
        (
            slice(None),
            slice(None),
            *(slice(None, None, step) for step in steps),
            *(slice(None, None, gap) for gap in apart),
        )
    ]
    return found


def _cut_to(sizes: Sequence[int], wanted: Ints, auto_pad: Optional[str]) -> list[int]:
    """What is cut off in front of each axis, then behind it; nothing if no size is `wanted`."""
    totals = [size - less for size, less in zip(sizes, wanted)] if wanted else []
    more = [total - total // 2 for total in totals]
    less = [total // 2 for total in totals]
    return [*less, *more] if auto_pad == "SAME_UPPER" else [*more, *less]


def _pads(
    shape: Sequence[int], covered: Sequence[int], steps: Sequence[int], pads: Ints, auto_pad: Optional[str]
) -> list[tuple[int, int]]:
    rank = len(shape)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        missing = [
            max(0, (-(-axis // step) - 1) * step + reach - axis) for axis, step, reach in zip(shape, steps, covered)
        ]
        less, more = [each // 2 for each in missing], [each - each // 2 for each in missing]
        return list(zip(less, more) if auto_pad == "SAME_UPPER" else zip(more, less))
    stated = list(pads or [0] * 2 * rank) if auto_pad != "VALID" else [0] * 2 * rank
    return list(zip(stated[:rank], stated[rank:]))


def _pooled(
    x: Array,
    outside: float,
    window: tuple[Ints, Ints, Ints, Ints],
    auto_pad: Optional[str],
    ceil: bool,
    padding: Optional[float] = None,
) -> Array:
    """What each window sees: `padding` (default: `outside`) where it reaches into the padding, `outside` beyond
    that.
    """
    kernel, strides, dilations, pads = window
    rank = x.ndim - 2
    sizes = list(kernel or [1] * rank)
    steps, apart = list(strides or [1] * rank), list(dilations or [1] * rank)
    covered = [gap * (size - 1) + 1 for gap, size in zip(apart, sizes)]
    around = _pads(x.shape[2:], covered, steps, pads, auto_pad)
    padded = np.pad(x, [(0, 0), (0, 0), *around], constant_values=outside if padding is None else padding)
    beyond = []
    for axis, (size, step, reach) in enumerate(zip(padded.shape[2:], steps, covered)):
        more = -(size - reach) % step if ceil else 0
        starts_outside = (
            more and size - reach + more >= x.shape[2 + axis] + around[axis][0]
        )  # a window must start in the map or before it
        beyond.append((0, 0 if starts_outside else more))
    return _windows(np.pad(padded, [(0, 0), (0, 0), *beyond], constant_values=outside), covered, steps, apart)
