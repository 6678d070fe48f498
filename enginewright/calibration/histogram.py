"""Magnitudes of a tensor in a histogram of fixed size, whose range doubles by merging pairs of bins.

ONNX Runtime's collectors keep the bin width of the first batch and add bins: a narrow first batch costs gigabytes, and
a constant one has no width at all (github.com/NVIDIA/Model-Optimizer/pull/1558). Here the range and the number of bins
are powers of two, so that memory depends on the number of bins alone, and the counts do not depend on the order of the
batches.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

SMALLEST_EXPONENT = (
    -100
)  # far below what INT8 can scale, and far enough from where the factor of a bin overflows float32


class Magnitudes:
    """|x| of one tensor over all batches: the largest value, and counts over [0, 2**exponent)."""

    def __init__(self, bins: int) -> None:
        """Keep at least `bins` bins in use: the range is at most twice the largest value, so there are twice as many or
        more.
        """
        self.amax = 0.0
        self.counts = np.zeros(1 << math.ceil(math.log2(2 * bins)), np.int64)
        self._exponent: Optional[int] = None  # unknown until a value is not zero

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count finite float values of any shape."""
        magnitudes = np.abs(values.reshape(-1))
        if magnitudes.dtype != np.float64:
            magnitudes = magnitudes.astype(np.float32, copy=False)
        self.amax = max(self.amax, float(magnitudes.max(initial=0.0)))
        if self.amax > 0.0:
            self._cover(max(math.frexp(self.amax)[1], SMALLEST_EXPONENT))
        # Multiplying by a power of two is exact, unless a value is so small that it belongs to the first bin anyway.
        factor = math.ldexp(self.counts.size, -(self._exponent or 0))
        self.counts += np.bincount(
            (magnitudes * magnitudes.dtype.type(factor)).astype(np.int64), minlength=self.counts.size
        )

    def _cover(self, exponent: int) -> None:
        """Let the range reach 2**exponent. All that was counted before a range was known is zero, and in the first
        bin.
        """
        if self._exponent is not None and exponent <= self._exponent:
            return
        if self._exponent is not None:
            merged = min(1 << min(exponent - self._exponent, 62), self.counts.size)
            sums = self.counts.reshape(-1, merged).sum(axis=1)
            self.counts = np.concatenate([sums, np.zeros(self.counts.size - sums.size, np.int64)])
        self._exponent = exponent

    def edges(self) -> npt.NDArray[np.float64]:
        """The edges of the bins, float64 [bins + 1], none beyond the largest value."""
        whole = np.ldexp(np.arange(self.counts.size + 1) / self.counts.size, self._exponent or 0)
        return np.minimum(whole, self.amax)

    def percentile(self, percent: float) -> float:
        """The smallest edge that at least `percent` of the magnitudes do not exceed."""
        wanted = max(math.ceil(percent / 100 * int(self.counts.sum())), 1)
        position = min(
            int(np.searchsorted(np.cumsum(self.counts), wanted)), self.counts.size - 1
        )  # the end: no value at all
        return float(self.edges()[position + 1])
