"""QuantizeLinear and DequantizeLinear in float64 for every opset: onnx's reference has them from opset 19 on, and in float32."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun

Array = npt.NDArray[Any]


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


OPERATORS = (QuantizeLinear, DequantizeLinear)


def _along(values: Array, rank: int, axis: int) -> Array:
    wide = np.asarray(values, np.float64)
    if wide.size == 1:
        return wide.reshape(())
    return wide.reshape([-1 if other == axis % rank else 1 for other in range(rank)])
