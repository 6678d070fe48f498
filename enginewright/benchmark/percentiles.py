"""Statistics of latencies: order statistics of all samples, no interpolation, no outlier dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PER_MILLE = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99_9": 999}

Seconds = npt.NDArray[np.float64]  # [samples]


def rank(samples: int, per_mille: int) -> int:
    """Index of the percentile among `samples` sorted values: the smallest value that at least per_mille / 1000 of them
    do not exceed.

    Integer arithmetic: 0.999 is no exact binary fraction, and the rank would jump by one for some counts. It is
    the index that trtexec and NumPy's method "inverted_cdf" take.
    """
    return max(-(-samples * per_mille // 1000) - 1, 0)


def enough(samples: int, per_mille: int) -> bool:
    """Whether at least one sample may lie beyond the percentile; else it would just be the maximum under another
    name.
    """
    return samples * (1000 - per_mille) >= 1000


def percentiles(values: Seconds) -> dict[str, float]:
    """The percentiles of PER_MILLE that `values` are enough for, by name, in the unit of `values`."""
    ordered = np.sort(values)
    return {
        name: float(ordered[rank(len(ordered), per_mille)])
        for name, per_mille in PER_MILLE.items()
        if enough(len(ordered), per_mille)
    }


def too_few(samples: int) -> str:
    """One phrase that names the percentiles left out, or an empty one."""
    missing = {
        name.replace("_", "."): -(-1000 // (1000 - per_mille))
        for name, per_mille in PER_MILLE.items()
        if not enough(samples, per_mille)
    }
    return (
        f"{samples} samples are too few for " + ", ".join(f"{name} ({needed})" for name, needed in missing.items())
        if missing
        else ""
    )


def latency_metrics(seconds: Seconds, prefix: str = "latency_ms") -> dict[str, Any]:
    """Mean, percentiles, extremes in milliseconds, and the coefficient of variation (population standard deviation /
    mean, as in trtexec).
    """
    if not len(seconds):
        return {}
    mean = float(seconds.mean())
    found: dict[str, Any] = {f"{prefix}_mean": 1e3 * mean}
    found.update({f"{prefix}_{name}": 1e3 * value for name, value in percentiles(seconds).items()})
    found.update({f"{prefix}_min": 1e3 * float(seconds.min()), f"{prefix}_max": 1e3 * float(seconds.max())})
    found[f"{prefix}_coefficient_of_variation"] = float(seconds.std()) / mean if mean > 0 else 0.0
    return found
