"""Whether the validation images are like the calibration images, tensor by tensor, as INT8 sees them.

Both sets run through the FP32 model; of every activation three things are compared: the share of values beyond the
calibrated range, the 99.99th percentile of |x|, and the whole histogram of |x|. Signs are not told apart: INT8 ranges
are symmetric.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.ranges import REPORT_PERCENTILE, TensorRange
from enginewright.calibration.recipe import read_recipe
from enginewright.config import CheckDrift, Params
from enginewright.data import Feeding, ImageSet
from enginewright.graph import stored
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.results.verdicts import Drift
from enginewright.runtimes.checked import require_checked
from enginewright.runtimes.onnxruntime.observe import observe
from enginewright.runtimes.onnxruntime.session import why_absent

if TYPE_CHECKING:
    import pandas as pd

BINS_AN_OCTAVE = 2
OCTAVES_BEYOND = 4  # values over 16 times the range share one bin
REMEDY = (
    "recalibrate on images like those that are served (data.root, data.selection=coverage, more"
    " data.calibration_images), and see that all of them are decoded and scaled alike"
)


@dataclass(frozen=True)
class Report:
    """What check_drift found, or why it could not look."""

    result: Drift
    table: Optional[pd.DataFrame] = None
    inputs: Sequence[Path] = ()
    settings: Optional[dict[str, Any]] = None

    def tables(self) -> dict[str, pd.DataFrame]:
        """File name -> table."""
        return {} if self.table is None else {"drift.csv": self.table}


def check(params: Params, paths: Layout) -> Report:
    """Run both image sets through the model and compare what its activations hold.

    A machine without ONNX Runtime cannot look; the report says that nothing is known.

    Raises:
        StaleArtifact, CalibrationMismatch, ModelError: what is compared is not whole, or does not belong together.
    """
    settings = params.check_drift
    if why := why_absent():
        return Report(Drift(f"drift was not checked: {why}", observed=False))
    require_checked(paths)
    scales = read_recipe(paths).scales
    folders = {"calibration": paths.calibration_images, "validation": paths.validation}
    sets = {name: ImageSet.open(folder).first(settings.images) for name, folder in folders.items()}
    inputs, batch = Interface.from_onnx(stored.read(paths.model)).inputs, params.calibration.batch_size
    seen = {
        name: observe(paths.model, Feeding(images, params.data.preprocessing).batches(inputs, batch), scales)
        for name, images in sets.items()
    }
    table = compare(scales, seen["calibration"], seen["validation"], settings)
    return Report(
        result_of(table, {name: len(images) for name, images in sets.items()}),
        table,
        [paths.model, paths.calibration_cache, *(file for images in sets.values() for file in images.array_files)],
        dataclasses.asdict(settings),
    )


def result_of(table: pd.DataFrame, images: Mapping[str, int]) -> Drift:
    """The record of a table of `compare`; `images` are the numbers that were compared, by set."""
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict(orient="records")]
    return Drift(verdict(table), drifted_tensors=int(table["drifted"].sum()), images=images, tensors=tuple(rows))


def compare(
    cache: CalibrationCache,
    calibration: Mapping[str, TensorRange],
    validation: Mapping[str, TensorRange],
    settings: CheckDrift,
) -> pd.DataFrame:
    """One row a tensor that both sets have values of, the most drifted first.

    Columns: tensor; range (127 * scale); calibration_saturated, validation_saturated: shares of values beyond it;
    calibration_p99_99, validation_p99_99 of |x|; percentile_ratio: validation to calibration; distance: Jensen-Shannon,
    base 2, 0 (equal) to 1; severity: how many times the most exceeded threshold is reached; drifted: severity > 1; why:
    what exceeds its threshold, in words.

    Source of the distance: Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information
        Theory 37 (1991).
    """
    import pandas as pd

    rows = [
        _row(tensor, 127 * scale, calibration[tensor], validation[tensor], settings)
        for tensor, scale in cache.scales.items()
        if tensor in calibration and tensor in validation and calibration[tensor].count and validation[tensor].count
    ]
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else ["tensor", "severity", "drifted"])
    return table.sort_values("severity", ascending=False, kind="stable").reset_index(drop=True)


def _row(
    tensor: str, amax: float, calibration: TensorRange, validation: TensorRange, settings: CheckDrift
) -> dict[str, Any]:
    percentiles = calibration.percentile(REPORT_PERCENTILE), validation.percentile(REPORT_PERCENTILE)
    # Half a step of INT8 is zero to it: added to both, so that no quotient of two nothings alarms.
    half_step = amax / 254
    ratio = (percentiles[1] + half_step) / (percentiles[0] + half_step)
    saturated = calibration.saturated / calibration.count, validation.saturated / validation.count
    distance = histogram_distance(calibration, validation, amax)
    exceeded = {
        f"{saturated[1]:.2%} of validation's values lie beyond the INT8 range, {saturated[0]:.2%} of calibration's": (
            (saturated[1] - saturated[0]) / settings.saturation_excess
        ),
        f"its 99.99th percentile is {ratio:.2f} times that of calibration": (
            abs(math.log(ratio)) / math.log(settings.percentile_ratio)
        ),
        f"its histogram is {distance:.2f} away (Jensen-Shannon distance, 1 at most)": distance / settings.distance,
    }
    severity = max(exceeded.values())
    return {
        "tensor": tensor,
        "range": amax,
        "calibration_saturated": saturated[0],
        "validation_saturated": saturated[1],
        "calibration_p99_99": percentiles[0],
        "validation_p99_99": percentiles[1],
        "percentile_ratio": ratio,
        "distance": distance,
        "severity": severity,
        "drifted": severity > 1,
        "why": "; ".join(words for words, reached in exceeded.items() if reached > 1),
    }


def histogram_distance(one: TensorRange, other: TensorRange, amax: float) -> float:
    """Jensen-Shannon distance of two histograms of |x|, base 2: 0 for equal ones, 1 for disjoint ones.

    Bins are half an octave wide, from half an INT8 step (all below is one bin: INT8 rounds it to 0) to 16 times the
    range (all beyond is one bin): some 25, so that a few thousand values fill them and their number does not look like
    drift.
    """
    from scipy.spatial.distance import jensenshannon

    octaves = math.log2(254) + OCTAVES_BEYOND
    edges = amax / 254 * 2 ** np.arange(0, octaves + 1 / BINS_AN_OCTAVE, 1 / BINS_AN_OCTAVE)
    first, second = (_shares(seen, edges) for seen in (one, other))
    return float(jensenshannon(first, second, base=2)) if not np.array_equal(first, second) else 0.0


def _shares(seen: TensorRange, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return seen.counts_between(edges) / seen.count


def verdict(table: pd.DataFrame) -> str:
    """One sentence: how many tensors drifted, which is the worst and why, and what to do; or that none did."""
    drifted = table[table["drifted"].astype(bool)]
    if drifted.empty:
        worst = (
            f", {table['severity'].iloc[0]:.2f} of a threshold at most ({table['tensor'].iloc[0]})"
            if len(table)
            else ""
        )
        return f"the calibration images are like the validation images in all {len(table)} tensors{worst}"
    first = drifted.iloc[0]
    count = f"{len(drifted)} of {len(table)} tensors"
    return (
        f"the calibration images are not like the validation images in {count}, worst in {first['tensor']}:"
        f" {first['why']}; {REMEDY}"
    )
