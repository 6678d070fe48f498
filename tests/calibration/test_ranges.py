from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.ranges import TensorRange, outlier_sentences, summary, table, write_report
from enginewright.config import CalibrationAlgorithm
from enginewright.results.calibration import RangesResult


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
    cache = CalibrationCache(Header.entropy, {"calm": 6 / 127, "wild": 1 / 127, "unseen": 1.0})
    calm, wild = TensorRange(6.0), TensorRange(1.0)
    calm.add(np.random.default_rng(0).normal(size=20000).astype(np.float32))
    wild.add(np.append(np.full(29999, 0.5, np.float32), np.float32(100)))
    ranges = table(cache, {"calm": calm, "wild": wild})
    write_report(tmp_path, CalibrationAlgorithm.entropy, ranges)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outlier_tensors"] == ["wild"]
    assert report["tensors"][2] == {"tensor": "unseen", "scale": 1.0, "range": 127.0}
    found = summary(ranges)
    assert found == RangesResult(3, 1, found.saturation_max, "wild")
    assert found.saturation_max == pytest.approx(1 / 30000)
    assert list(pd.read_csv(tmp_path / "ranges.csv")["tensor"]) == ["calm", "wild", "unseen"]


def test_counts_between_edges_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    seen = TensorRange(1.0)
    seen.add(values)
    edges = [0.25, 0.5, 1.0, 2.0]  # boundaries of bins
    assert seen.counts_between(edges).tolist() == np.histogram(np.abs(values), [0, *edges, np.inf])[0].tolist()


def outlying(chosen: float, largest: float = 100.0) -> TensorRange:
    seen = TensorRange(chosen)
    seen.add(np.append(np.full(29999, 0.5, np.float32), np.float32(largest)))
    return seen


def test_outliers_are_told_with_their_ratio_and_what_to_do() -> None:
    cache = CalibrationCache(Header.minmax, {"calm": 0.5 / 127, "wide": 100 / 127, "cut": 1 / 127})
    calm = TensorRange(0.5)
    calm.add(np.full(10000, 0.5, np.float32))
    wide, cut = outlier_sentences(table(cache, {"calm": calm, "wide": outlying(100.0), "cut": outlying(1.0, 90.0)}))
    assert wide.startswith("wide holds outliers: its largest value 100 is 198.4 times the 99.99th percentile 0.503")
    assert wide.endswith(
        "and the range 100 follows them, which costs all other values INT8 steps; try calibration=percentile"
    )
    assert cut.startswith("cut holds outliers: its largest value 90 is ")
    assert cut.endswith("and the range 1 cuts them off; if the accuracy suffers, keep the layers that read it in float")


def test_the_worst_outliers_are_told_and_the_rest_counted() -> None:
    seen = {f"t{number}": outlying(100.0, 10.0 + number) for number in range(8)}
    sentences = outlier_sentences(table(CalibrationCache(Header.minmax, dict.fromkeys(seen, 100 / 127)), seen))
    assert [sentence.split()[0] for sentence in sentences] == ["t7", "t6", "t5", "t4", "t3", "3"]
    assert "outlier_tensors in artifacts/calibration/report.json" in sentences[-1]


def test_what_was_not_observed_has_no_outliers() -> None:
    assert outlier_sentences(table(CalibrationCache(Header.minmax, {"unseen": 1.0}), {})) == []
