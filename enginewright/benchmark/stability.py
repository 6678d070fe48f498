"""Whether a load held its speed: the verdict over its windows, in words that name the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from enginewright.config import Stability

if TYPE_CHECKING:
    import pandas as pd

# fewer say nothing of a trend: with 7, Kendall's test cannot reach p < 0.0004 at all, and one stall decides the spread
LEAST_WINDOWS = 8
MINUTE = 60.0


@dataclass(frozen=True)
class _Series:
    """Throughput by window."""

    starts: npt.NDArray[np.float64]  # seconds from the first issue
    ends: npt.NDArray[np.float64]
    rates: npt.NDArray[np.float64]  # images/s

    def rate_between(self, low: float, high: float) -> float:
        """Images a second over the windows that lie within [low, high]."""
        inside = (self.starts >= low - 1e-9) & (self.ends <= high + 1e-9)
        lengths = (self.ends - self.starts)[inside]
        return float((self.rates[inside] * lengths).sum() / lengths.sum()) if inside.any() else float("nan")


def stability(windows: pd.DataFrame, settings: Stability) -> dict[str, Any]:
    """Figures of the windows, and the verdict.

    Drift is the Theil-Sen slope (P. K. Sen, JASA 63, 1968: the median of all slopes between two windows, which one
    stall does not move) over the whole load in percent of the median; whether there is a trend at all is the
    Mann-Kendall test, Kendall's tau of throughput against time. A load is stable if it has no trend beyond
    `maximum_drift_percent`, its windows spread by at most `maximum_coefficient_of_variation` (population standard
    deviation over mean, as trtexec has it), and its end is as fast as its start.

    Args:
        windows: of `enginewright.benchmark.windows.window_table`.
        settings: the bounds.

    Returns:
        windows, throughput_images_per_s_{first,last,slowest}_window, throughput_coefficient_of_variation, last_to_first
        (minutes, or halves of a load under two), throughput_drift_percent, drift_p_value, stable (absent if too short),
        stability (the reason in words).
    """
    if windows.empty:
        return {}
    ends = windows["seconds"].to_numpy(np.float64)
    series = _Series(np.append(0.0, ends[:-1]), ends, windows["throughput_images_per_s"].to_numpy(np.float64))
    rates = series.rates
    found: dict[str, Any] = {
        "windows": len(rates),
        "throughput_images_per_s_first_window": float(rates[0]),
        "throughput_images_per_s_last_window": float(rates[-1]),
        "throughput_images_per_s_slowest_window": float(rates.min()),
        "throughput_coefficient_of_variation": float(rates.std() / rates.mean()) if rates.mean() > 0 else 0.0,
    }
    if len(rates) < LEAST_WINDOWS or np.median(rates) <= 0:
        return {**found, "stability": f"too short to judge: {len(rates)} windows, and {LEAST_WINDOWS} are needed"}
    found.update(_trend(series))
    faults = _faults(series, found, settings)
    return {**found, "stable": not faults, "stability": "; ".join(faults) or "held its speed"}


def _trend(series: _Series) -> dict[str, float]:
    from scipy.stats import kendalltau, theilslopes

    rates, ends, total = series.rates, series.ends, float(series.ends[-1])
    part = MINUTE if total >= 2 * MINUTE else total / 2
    first, last = series.rate_between(0.0, part), series.rate_between(total - part, total)
    slope = float(theilslopes(rates, ends).slope)
    constant = bool(np.all(rates == rates[0]))  # Kendall's tau is undefined then
    return {
        "last_to_first": last / first if first > 0 and np.isfinite(last) else 0.0,
        "throughput_drift_percent": 100 * slope * float(ends[-1] - ends[0]) / float(np.median(rates)),
        "drift_p_value": 1.0 if constant else float(kendalltau(ends, rates).pvalue),
    }


def _faults(series: _Series, found: dict[str, Any], settings: Stability) -> list[str]:
    faults = []
    if (
        abs(found["throughput_drift_percent"]) > settings.maximum_drift_percent
        and found["drift_p_value"] < settings.significance
    ):
        faults.append(
            f"throughput drifts by {found['throughput_drift_percent']:+.1f} % from start to end (p ="
            f" {found['drift_p_value']:.2g})"
        )
    if found["last_to_first"] < settings.minimum_last_to_first:
        part = "minute" if series.ends[-1] >= 2 * MINUTE else "half"
        faults.append(f"the last {part} has {found['last_to_first']:.3f} of the throughput of the first")
    if found["throughput_coefficient_of_variation"] > settings.maximum_coefficient_of_variation:
        slowest = int(np.argmin(series.rates))
        where = f"{series.starts[slowest]:.4g}-{series.ends[slowest]:.4g} s"
        share = series.rates[slowest] / np.median(series.rates)
        spread = f"{found['throughput_coefficient_of_variation']:.1%}"
        faults.append(
            f"windows spread by {spread} (coefficient of variation), the slowest, {where}, has {share:.2f} of the"
            " median"
        )
    return faults
