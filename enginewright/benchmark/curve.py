"""Throughput and latency by batch size, and the knee of that curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SHARE_AT_KNEE = 0.95


def knee(curve: pd.DataFrame) -> dict[str, Any]:
    """The smallest batch that gives at least SHARE_AT_KNEE of the best throughput: beyond it, latency grows and
    throughput hardly does.

    Args:
        curve: columns batch, throughput_images_per_s.

    Returns:
        knee_batch, knee_throughput_images_per_s, best_batch, best_throughput_images_per_s; empty for an empty curve.
    """
    if curve.empty:
        return {}
    ordered = curve.sort_values("batch")
    batches, rates = ordered["batch"].to_numpy(np.int64), ordered["throughput_images_per_s"].to_numpy(np.float64)
    best = int(np.argmax(rates))
    at_knee = int(np.argmax(rates >= SHARE_AT_KNEE * rates[best]))
    return {
        "knee_batch": int(batches[at_knee]),
        "knee_throughput_images_per_s": float(rates[at_knee]),
        "best_batch": int(batches[best]),
        "best_throughput_images_per_s": float(rates[best]),
    }
