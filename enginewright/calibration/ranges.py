"""The range that is chosen for a tensor, what calibration saw of its values, and what its scale does to them; written
beside calib.cache as report.json and ranges.csv.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.entropy import entropy_range
from enginewright.calibration.histogram import Magnitudes
from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.manifest import replacing, write_json
from enginewright.results.calibration import RangesResult

if TYPE_CHECKING:
    import pandas as pd

# A float32's sign bit dropped, then its 8 exponent bits and the first 7 of its mantissa: a bin is at most 1/128 of its
# value wide.
BIN_SHIFT = 16
BINS = 1 << 15
# of amax to the 99.99th percentile of |x|: two bits of INT8's seven go to one value in ten thousand
OUTLIER_RATIO = 4.0
REPORT_PERCENTILE = 99.99
MOST_NAMED = 5  # outlier tensors on the terminal


def chosen_range(seen: Magnitudes, settings: Calibration) -> float:
    """The amax that an algorithm chooses."""
    if settings.algorithm is CalibrationAlgorithm.entropy:
        return entropy_range(seen.counts, seen.edges())
    return seen.amax if settings.algorithm is CalibrationAlgorithm.minmax else seen.percentile(settings.percentile)


class TensorRange:
    """Streaming statistics of one tensor's values; memory does not grow with them."""

    def __init__(self, chosen: float) -> None:
        """`chosen` is the amax of the tensor's scale: |x| beyond it saturates."""
        self.chosen = chosen
        self.amax = 0.0
        self.count = 0
        self.saturated = 0
        self._bins = np.zeros(BINS, np.int64)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take in float32 values of any shape."""
        magnitudes = np.abs(np.ascontiguousarray(values, np.float32)).reshape(-1)
        if not magnitudes.size:
            return
        self.amax = max(self.amax, float(magnitudes.max()))
        self.count += magnitudes.size
        # Half a step beyond the range still rounds to 127.
        self.saturated += int(np.count_nonzero(magnitudes > self.chosen * (127.5 / 127)))
        self._bins += np.bincount(magnitudes.view(np.uint32) >> BIN_SHIFT, minlength=BINS)

    def counts_between(self, edges: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """How many |x| lie below the first edge, between each two, and from the last on: int64 [edges + 1].

        Edges, ascending and positive, count as the nearest boundary of a bin below them: to 1/128 of themselves.
        """
        below = np.concatenate([[0], np.cumsum(self._bins)])
        inner = below[np.asarray(edges, np.float32).view(np.uint32) >> BIN_SHIFT]
        return np.diff(np.concatenate([[0], inner, [self.count]]))

    def percentile(self, percent: float) -> float:
        """The value that `percent` of all |x| do not exceed, to 1/128 of itself."""
        if not self.count:
            return 0.0
        position = int(np.searchsorted(np.cumsum(self._bins), self.count * percent / 100))
        upper = np.array([min(position + 1, BINS - 1) << BIN_SHIFT], np.uint32).view(np.float32)
        return min(float(upper[0]), self.amax)


def table(cache: CalibrationCache, seen: Mapping[str, TensorRange]) -> pd.DataFrame:
    """One row a tensor of the cache, in its order; what was not observed is missing.

    Columns: tensor, scale, range (127 * scale), amax (min-max), p99.99 of |x|, saturated (share of values), outlier
        (amax / p99.99), values.
    """
    import pandas as pd

    rows = []
    for tensor, scale in cache.scales.items():
        row: dict[str, Any] = {"tensor": tensor, "scale": scale, "range": 127 * scale}
        if tensor in seen and seen[tensor].count:
            found = seen[tensor]
            p9999 = found.percentile(REPORT_PERCENTILE)
            row.update(amax=found.amax, p99_99=p9999, saturated=found.saturated / found.count, values=found.count)
            row.update(outlier=found.amax / p9999 if p9999 > 0 else 1.0)
        rows.append(row)
    return pd.DataFrame(rows, columns=["tensor", "scale", "range", "amax", "p99_99", "saturated", "outlier", "values"])


def outliers(ranges: pd.DataFrame) -> list[str]:
    """Tensors whose largest value is far beyond nearly all others: candidates for percentile, or for float."""
    return [str(tensor) for tensor in _outlying(ranges)["tensor"]]


def _outlying(ranges: pd.DataFrame) -> pd.DataFrame:
    return ranges[ranges["outlier"] >= OUTLIER_RATIO]


def outlier_sentences(ranges: pd.DataFrame) -> list[str]:
    """A sentence for each outlier tensor of `table`, the worst first and MOST_NAMED at most: how far out, and what to
    do about it.
    """
    worst = _outlying(ranges).sort_values("outlier", ascending=False, kind="stable")
    sentences = []
    for _, row in worst.head(MOST_NAMED).iterrows():
        where = (
            f"{row['tensor']} holds outliers: its largest value {row['amax']:.4g} is {row['outlier']:.1f} times the"
            f" 99.99th percentile {row['p99_99']:.4g}"
        )
        if row["range"] >= OUTLIER_RATIO * row["p99_99"]:
            sentences.append(
                f"{where}, and the range {row['range']:.4g} follows them, which costs all other values INT8 steps; try"
                " calibration=percentile"
            )
        else:
            sentences.append(
                f"{where}, and the range {row['range']:.4g} cuts them off; if the accuracy suffers, keep the layers"
                " that read it in float"
            )
    if len(worst) > MOST_NAMED:
        sentences.append(
            f"{len(worst) - MOST_NAMED} more tensors hold outliers: outlier_tensors in"
            " artifacts/calibration/report.json"
        )
    return sentences


def summary(ranges: pd.DataFrame) -> RangesResult:
    """What a `table` shows, in four figures."""
    tensors, named = len(ranges), len(outliers(ranges))
    if not ranges["saturated"].notna().any():
        return RangesResult(tensors, named)
    most = int(ranges["saturated"].argmax())
    return RangesResult(tensors, named, float(ranges["saturated"].max()), str(ranges["tensor"].iloc[most]))


def write_report(folder: Path, algorithm: CalibrationAlgorithm, ranges: pd.DataFrame) -> None:
    """Write report.json and ranges.csv (for `dvc plots`) of a `table` into `folder`."""
    import pandas as pd

    with replacing(folder / "ranges.csv") as temporary:
        ranges.to_csv(temporary, index=False)
    rows = [{name: value for name, value in row.items() if pd.notna(value)} for row in ranges.to_dict(orient="records")]
    found = {"algorithm": algorithm.name, "tensors": rows, "outlier_tensors": outliers(ranges)}
    write_json(folder / "report.json", found)
