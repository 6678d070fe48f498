"""Accuracy against throughput, from the metrics of the two stages that measure them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from enginewright import manifest
from enginewright.config import Calibration, Data
from enginewright.errors import StaleArtifact
from enginewright.pareto import calibration_name, compare, table
from enginewright.results.accuracy import AccuracyResult
from enginewright.results.pareto import ParetoResult
from enginewright.results.speed import SpeedResult
from enginewright.views.committed import read_accuracy, read_speed
from enginewright.views.metrics import of_pareto
from enginewright.views.pareto import show
from support.project import PATHS

CALIBRATION = "percentile, 200 random"
POINTS = {"fp32": (40.0, 1.0), "fp16": (39.0, 0.98), "int8": (100.0, 0.85), "int8_mixed": (80.0, 0.96)}


def measured(
    points: dict[str, tuple[float, float]], figure: str = "agreement", bound: float = 0.95
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of validate_accuracy and benchmark_sustained."""
    accuracy: dict[str, Any] = {
        "target": {"device": "Test CPU"},
        "gate": {"figure": figure, "mode": "relative", "passed": True},
    }
    benchmark: dict[str, Any] = {
        "target": {"device": "Test CPU"},
        "settings": {"scenarios": ["single_stream", "offline"], "batch_size": 32, "seconds": 1.0},
    }
    for precision, (throughput, value) in points.items():
        own = {"engine_sha256": f"{precision}'s"}
        accuracy[precision] = own if precision == "fp32" and figure == "agreement" else {**own, figure: value}
        if precision != "fp32":
            low, high = value - 0.01, value + 0.02
            outcome = "passed" if low >= bound - 1e-9 else "failed" if high < bound else "undecided"
            accuracy["gate"][precision] = {
                "verdict": outcome,
                "passed": outcome == "passed",
                "value": value,
                "low": low,
                "high": high,
                "bound": bound,
            }
        benchmark[precision] = {
            **own,
            "single_stream": {"throughput_images_per_s": 1.0},
            "offline": {"throughput_images_per_s": throughput},
        }
    return accuracy, benchmark


def records(accuracy: dict[str, Any], benchmark: dict[str, Any]) -> tuple[AccuracyResult, SpeedResult]:
    return read_accuracy(accuracy), read_speed(benchmark)


def result(points: dict[str, tuple[float, float]], figure: str = "agreement", bound: float = 0.95) -> ParetoResult:
    return compare(*records(*measured(points, figure, bound)), CALIBRATION)


def test_the_mixed_engine_is_chosen_where_plain_int8_fails_the_gate() -> None:
    found = result(POINTS)
    frame = table(found).set_index("precision")
    assert frame["front"].to_dict() == {"fp32": True, "fp16": False, "int8": True, "int8_mixed": True}
    assert frame["holds"].to_dict() == {"fp32": True, "fp16": True, "int8": False, "int8_mixed": True}
    assert list(frame.loc["int8", ["low", "high", "bound", "speedup"]]) == pytest.approx([0.84, 0.87, 0.95, 2.5])
    assert frame["calibration"].to_dict() == {
        "fp32": "none",
        "fp16": "none",
        "int8": CALIBRATION,
        "int8_mixed": CALIBRATION,
    }
    assert of_pareto(found) == {
        "fastest_that_holds": "int8_mixed",
        "speedup": 2.0,
        "value": 0.96,
        "figure": "agreement",
        "bound": 0.95,
        "undecided": "none",
        "front": "fp32 int8 int8_mixed",
        "findings": [],
    }


def test_fp32_has_no_interval_as_the_others_are_told_apart_from_its_point() -> None:
    lower = {name: (speed, value - 0.02) for name, (speed, value) in POINTS.items()}
    frame = table(result(lower, "top1", 0.93)).set_index("precision")
    assert list(frame.loc["fp32", ["low", "value", "high"]]) == [0.98, 0.98, 0.98]
    assert list(frame.loc["int8_mixed", ["low", "value", "high"]]) == pytest.approx([0.93, 0.94, 0.96])


def test_an_undecided_engine_is_not_chosen_and_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """int8_mixed is the fastest whose point reaches the bound, and the images do not show that it does."""
    undecided = result(POINTS, bound=0.955)
    assert table(undecided).set_index("precision")["verdict"].to_dict() == {
        "fp32": "passed",
        "fp16": "passed",
        "int8": "failed",
        "int8_mixed": "undecided",
    }
    found = of_pareto(undecided)
    assert (found["fastest_that_holds"], found["undecided"]) == ("fp32", "int8_mixed")
    show(undecided, Console(width=120))
    printed = capsys.readouterr().out
    assert "UNDECIDED" in printed
    assert "FAILED" in printed
    assert "Undecided, and so not chosen: int8_mixed" in printed


def test_one_engine_under_two_names_is_named_by_the_first() -> None:
    """Where plain INT8 passes, the mixture is the same engine, and only noise tells their speeds apart."""
    accuracy, benchmark = measured({**POINTS, "int8": (79.0, 0.96)})
    for metrics_of in (accuracy, benchmark):
        metrics_of["int8_mixed"]["engine_sha256"] = metrics_of["int8"]["engine_sha256"]
    found = of_pareto(compare(*records(accuracy, benchmark), CALIBRATION))
    assert (found["fastest_that_holds"], found["speedup"]) == ("int8", pytest.approx(79 / 40))


def test_no_engine_is_chosen_where_none_passes() -> None:
    found = of_pareto(result({name: (speed, min(value, 0.9)) for name, (speed, value) in POINTS.items()}, "top1"))
    assert found["fastest_that_holds"] == "none"
    assert "speedup" not in found


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=4, max_size=4))
def test_the_front_is_what_no_weighting_by_another_engine_beats(numbers: list[tuple[int, int]]) -> None:
    points = {name: (float(speed), value / 10) for name, (speed, value) in zip(POINTS, numbers)}
    frame = table(result(points, "top1")).set_index("precision")
    for name, (speed, value) in points.items():
        beaten = any((a > speed and b >= value) or (a >= speed and b > value) for a, b in points.values())
        assert bool(frame.loc[name, "front"]) is not beaten


@pytest.mark.parametrize(
    ("key", "text"),
    [
        pytest.param("target", "of another target", id="target"),
        pytest.param("int8", "of another int8 engine", id="engine"),
    ],
)
def test_figures_of_different_measurements_are_not_put_together(key: str, text: str) -> None:
    accuracy, benchmark = measured(POINTS)
    benchmark = copy.deepcopy(benchmark)
    benchmark[key]["device" if key == "target" else "engine_sha256"] = "another"
    with pytest.raises(StaleArtifact, match=f"{text} than those of validate_accuracy; run `dvc repro`"):
        compare(*records(accuracy, benchmark), CALIBRATION)


def test_without_the_scenario_offline_the_first_one_gives_the_throughput() -> None:
    accuracy, benchmark = measured(POINTS)
    benchmark["settings"]["scenarios"] = ["single_stream"]
    assert {row.scenario for row in compare(*records(accuracy, benchmark), CALIBRATION).rows} == {"single_stream"}


def test_calibration_in_words() -> None:
    assert calibration_name(Calibration(), Data()) == "entropy, 500 stratified"


def test_stage_writes_table_and_choice(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.pareto import pareto

    for folder, found in zip((PATHS.accuracy, PATHS.benchmark), records(*measured(POINTS))):
        manifest.write_json(folder / "metrics.json", found.to_json())
        manifest.seal(folder / "metrics.json", "test", [])
    monkeypatch.setattr("sys.argv", ["pareto"])
    with pytest.raises(SystemExit) as ended:
        pareto()
    assert not ended.value.code
    assert pd.read_csv(configured / PATHS.pareto, keep_default_na=False)["precision"].tolist() == list(POINTS)
    assert json.loads((PATHS.metrics_of("pareto")).read_text())["fastest_that_holds"] == "int8_mixed"
    assert manifest.verify(PATHS.pareto).inputs.keys() == {
        "artifacts/accuracy/metrics.json",
        "artifacts/benchmark/metrics.json",
    }
    assert "The fastest engine that passes the gate is int8_mixed: 2.00 x FP32" in capsys.readouterr().out
