from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.ranges import TensorRange, write_report
from enginewright.config import CalibrationAlgorithm


@pytest.mark.parametrize("percent", [50.0, 99.0, 99.99])
def test_percentiles_are_right_to_a_hundredth(percent: float) -> None:
    values = np.random.default_rng(0).normal(size=(10, 3, 500)).astype(np.float32)
    seen = TensorRange(chosen=4.0)
    for batch in values:
        seen.add(batch)
    assert seen.percentile(percent) == pytest.approx(np.percentile(np.abs(values), percent), rel=0.02)
    assert seen.amax == np.abs(values).max()


def test_what_rounds_to_the_last_level_does_not_saturate() -> None:
    seen = TensorRange(chosen=1.27)
    seen.add(np.array([0.0, -1.27, 1.2749, 1.276, -5.0], np.float32))
    assert (seen.saturated, seen.count) == (2, 5)


def test_the_report_names_outliers_and_leaves_out_what_was_not_observed(tmp_path: Path) -> None:
    cache = CalibrationCache(CalibrationAlgorithm.entropy, {"calm": 6 / 127, "wild": 1 / 127, "unseen": 1.0})
    calm, wild = TensorRange(6.0), TensorRange(1.0)
    calm.add(np.random.default_rng(0).normal(size=20000).astype(np.float32))
    wild.add(np.append(np.full(29999, 0.5, np.float32), np.float32(100)))
    metrics = write_report(tmp_path, cache, {"calm": calm, "wild": wild})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outlier_tensors"] == ["wild"]
    assert report["tensors"][2] == {"tensor": "unseen", "scale": 1.0, "range": 127.0}
    assert metrics == {"tensors": 3, "outlier_tensors": 1, "saturation_max": pytest.approx(1 / 30000), "most_saturated_tensor": "wild"}
    assert list(pd.read_csv(tmp_path / "ranges.csv")["tensor"]) == ["calm", "wild", "unseen"]
