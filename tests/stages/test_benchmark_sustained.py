"""benchmark_sustained on engines that answer in no time."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from enginewright import manifest
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.samples import Recorder
from enginewright.config import Precision, ScenarioName
from enginewright.results.speed import PARTS
from stages.benchmark_sustained import benchmark_sustained
from support.project import PATHS
from support.waiting import Clock

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], None]], tuple[int, str]]

PRECISIONS = tuple(precision.value for precision in Precision)
SERVER = {"queries_per_s": None, "latency_ms": 15.0, "percentile": 99.0, "probe_seconds": 0.02, "max_batch": 8}
SHORT: dict[str, Any] = {
    "driver": "own",
    "seconds": 0.2,
    "warmup_seconds": 0.05,
    "window_seconds": 0.05,
    "batch_size": 2,
    "server": SERVER,
}
SHORT.update({"batch_curve": [1, 4], "batch_curve_seconds": 0.02, "whole_seconds": 0.02})


def test_figures_series_and_identity_of_a_whole_run(
    project: Callable[..., Path], weights: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, tick_ns=500_000)  # a query takes as long as one look at the clock, however busy the machine
    project(weights, benchmark={**SHORT, "scenarios": [name.value for name in ScenarioName]})
    code, printed = run(benchmark_sustained)
    assert code == 0, printed
    metrics = json.loads((PATHS.metrics_of("benchmark_sustained")).read_text())
    assert metrics["complete"] is True
    assert metrics["target"]["device"] == "Test CPU"
    assert metrics["settings"]["batch_size"] == 2
    offline = {precision: metrics[precision]["offline"]["throughput_images_per_s"] for precision in PRECISIONS}
    assert metrics["ratio"]["offline"]["int8_to_fp32"] == pytest.approx(offline["int8"] / offline["fp32"])
    windows = pd.read_csv(PATHS.benchmark / "windows.csv")
    counted = windows.groupby(["precision", "scenario"])["queries"].sum().to_dict()
    for precision in PRECISIONS:
        for scenario, batch in (("single_stream", 1), ("multi_stream", 8), ("offline", 2), ("server", 1)):
            figures = metrics[precision][scenario]
            assert figures["batch_size"] == batch
            assert figures["throughput_images_per_s"] == pytest.approx(batch * figures["throughput_queries_per_s"])
            assert figures["latency_ms_min"] <= figures["latency_ms_p50"] <= figures["latency_ms_max"]
            assert figures["device_ms_p50"] == pytest.approx(1.0)  # the device's own clock, not the harness's
            assert figures["throughput_images_per_s_without_transfers"] == pytest.approx(batch / 1e-3)
            assert figures["h2d_ms_p50"] == pytest.approx(2.0)
            assert counted[precision, scenario] == figures["queries"]
        assert metrics[precision]["server"]["highest_queries_per_s"] > 100
        assert metrics[precision]["batch_curve"]["best_batch"] in (1, 4)
        assert metrics[precision]["resident_mib_max"] >= metrics[precision]["resident_mib_after"] > 1
        assert metrics[precision]["engine_sha256"] == manifest.sha256(PATHS.engine(precision, "engine.npy"))
        for batch in (1, 2):
            way = metrics[precision]["whole"][f"batch_{batch}"]
            for part in PARTS:
                assert way[f"{part}_ms_p50"] == pytest.approx(0.5)
            assert way["images_per_s_engine"] == pytest.approx(batch / 0.5e-3)
            assert way["images_per_s_whole"] == pytest.approx(batch / 1.5e-3)
    whole = pd.read_csv(PATHS.benchmark / "whole.csv")
    assert whole["part"].tolist() == [*PARTS] * 2 * len(PRECISIONS)
    assert whole.groupby("batch")["ms_per_image"].mean().to_dict() == pytest.approx({"batch 1": 0.5, "batch 2": 0.25})
    search = pd.read_csv(PATHS.benchmark / "server_search.csv")
    assert (
        search[search["held"] & (search["precision"] == "int8")]["queries_per_s"].max()
        == metrics["int8"]["server"]["highest_queries_per_s"]
    )
    curve = pd.read_csv(PATHS.benchmark / "batch_curve.csv")
    assert curve["batch"].tolist() == [1, 4] * len(PRECISIONS)
    assert set(pd.read_csv(PATHS.benchmark / "latency.csv")["precision"]) == set(PRECISIONS)
    assert "rss_mib" in pd.read_csv(PATHS.benchmark / "telemetry.csv")
    assert "artifacts/data/validation/images.npy" in manifest.verify(PATHS.benchmark / "windows.csv").inputs


def test_percentiles_that_the_samples_are_too_few_for_are_named(
    project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    project(weights, benchmark={**SHORT, "seconds": 0.001, "window_seconds": 0.001})
    code, printed = run(benchmark_sustained)
    assert code == 0, printed
    figures = json.loads((PATHS.metrics_of("benchmark_sustained")).read_text())["fp32"]["single_stream"]
    assert "latency_ms_p99_9" not in figures
    assert f"{figures['queries']} samples are too few for" in figures["percentiles_left_out"]
    assert "p99.9 (1000)" in printed


def test_interrupted_run_keeps_its_series_and_writes_no_metrics(
    project: Callable[..., Path], weights: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(weights, benchmark={**SHORT, "seconds": 60.0})
    under_load: list[bool] = []
    announced, recorded = Observer.phase, Recorder.record

    def phase(observer: Observer, precision: str, name: str, seconds: float) -> None:
        announced(observer, precision, name, seconds)
        if name == "single_stream":  # after its warm-up
            under_load.append(True)

    def record(recorder: Recorder, due_ns: int, completed_ns: int) -> None:
        recorded(recorder, due_ns, completed_ns)
        if under_load and recorder.count == 100:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Observer, "phase", phase)
    monkeypatch.setattr(Recorder, "record", record)
    code, printed = run(benchmark_sustained)
    assert code == 130, printed
    assert "INCOMPLETE" in printed
    assert not (PATHS.metrics_of("benchmark_sustained")).exists()
    kept = json.loads((PATHS.benchmark / "incomplete.json").read_text())
    windows = pd.read_csv(PATHS.benchmark / "windows.csv")
    assert kept["complete"] is False
    assert windows["queries"].sum() == kept["fp32"]["single_stream"]["queries"] >= 100
    assert not manifest.sidecar(PATHS.benchmark / "windows.csv").exists()  # nothing may take it for whole
