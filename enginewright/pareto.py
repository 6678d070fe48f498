"""Accuracy against throughput, engine by engine: which of them no other beats in both, and which is the fastest that
passes the gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from enginewright.benchmark.int8_speed import slower
from enginewright.config import QUANTIZED, Calibration, Data, Precision, ScenarioName
from enginewright.errors import StaleArtifact
from enginewright.results import STANDS_IN, EngineVerdict, GateRecord, Outcome
from enginewright.tasks.base import FP32

if TYPE_CHECKING:
    import pandas as pd

NOT_CALIBRATED = "none"
Metrics = Mapping[str, Any]  # of a stage, as artifacts/metrics/<stage>.json holds them


def table(accuracy: Metrics, benchmark: Metrics, calibration: str) -> pd.DataFrame:
    """Put both figures of each engine side by side.

    Args:
        accuracy: of validate_accuracy.
        benchmark: of benchmark_sustained.
        calibration: what the scales of the INT8 engines come from, in words.

    Returns:
        A row a precision, FP32 first: precision, engine_sha256, calibration (NOT_CALIBRATED for engines without
            scales), scenario, throughput_images_per_s, speedup (to FP32; NaN where the target has no such engine),
            figure (what the gate judges), value, low and high (the interval that it judges; paired with FP32, so that
            it is FP32's point that the engine is told apart from), bound (the gate's, the same in every row), verdict
            (the gate's; FP32 passes), holds (it passed), front (no other engine is as good in one and better in the
            other).

    Raises:
        StaleArtifact: the two were not measured on the same engines, or on the same target.
    """
    import pandas as pd

    _require_the_same(accuracy, benchmark)
    scenario = _scenario(benchmark)
    figure = accuracy["gate"]["figure"]
    verdicts = GateRecord.from_json(accuracy["gate"]).engines
    bound = next((judged.bound for judged in verdicts.values()), float("nan"))  # NaN where no engine was judged
    base = benchmark[FP32][scenario]["throughput_images_per_s"] if FP32 in benchmark else float("nan")
    rows = []
    for precision in (one for one in Precision if one.value in accuracy and one.value in benchmark):
        found = accuracy[precision.value]
        value = found.get(figure, 1.0)  # FP32 agrees with itself
        of_fp32 = Outcome.failed if value < bound else Outcome.passed  # which is not judged
        judged = verdicts.get(precision, EngineVerdict(of_fp32, value, bound, value, value))
        throughput = benchmark[precision.value][scenario]["throughput_images_per_s"]
        rows.append(
            {
                "precision": precision.value,
                "engine_sha256": found["engine_sha256"],
                "calibration": calibration if precision in QUANTIZED else NOT_CALIBRATED,
                "scenario": scenario,
                "throughput_images_per_s": throughput,
                "speedup": throughput / base,
                "figure": figure,
                "value": value,
                "low": judged.low,
                "high": judged.high,
                "bound": bound,
                "verdict": judged.outcome.value,
                "holds": judged.passed,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.assign(front=_front(frame))


def calibration_name(calibration: Calibration, data: Data) -> str:
    """Algorithm, images and selection."""
    return f"{calibration.algorithm.value}, {data.calibration_images} {data.selection.value}"


def metrics(frame: pd.DataFrame) -> dict[str, Any]:
    """The engine to deploy, the fastest that passes the gate, and what it gives; of all rows which are on the front,
    and which INT8 is slower than FP16.
    """
    passing = frame[frame["holds"]].sort_values("throughput_images_per_s", ascending=False, kind="stable")
    chosen: dict[str, Any] = {"fastest_that_holds": "none"}
    if len(passing):
        same = (
            frame["engine_sha256"] == passing["engine_sha256"].iloc[0]
        )  # a mixture without float layers is the INT8 engine: one name for both
        best = frame[same].iloc[0]
        chosen = {
            "fastest_that_holds": best["precision"],
            **({} if math.isnan(best["speedup"]) else {"speedup": float(best["speedup"])}),
            "value": float(best["value"]),
        }
    undecided = " ".join(frame[frame["verdict"] == Outcome.undecided.value]["precision"]) or "none"
    return {
        **chosen,
        "undecided": undecided,
        "figure": frame["figure"][0],
        **({} if math.isnan(frame["bound"][0]) else {"bound": float(frame["bound"][0])}),
        "front": " ".join(frame[frame["front"]]["precision"]),
        "findings": findings(frame),
    }


def findings(frame: pd.DataFrame) -> list[str]:
    """Which INT8 engines are slower than FP16's, a sentence each."""
    rates = dict(zip(frame["precision"], frame["throughput_images_per_s"]))
    fp16 = float(rates.get(Precision.fp16.value, 0.0))
    said = [
        slower(name, float(rate), fp16, "images/s", frame["scenario"][0])
        for name, rate in rates.items()
        if Precision[name] in QUANTIZED
    ]
    return [finding for finding in said if finding]


def _require_the_same(accuracy: Metrics, benchmark: Metrics) -> None:
    without = accuracy.get("not_judged", {})
    measured = [
        one.value for one in Precision if one.value not in without and STANDS_IN not in accuracy.get(one.value, {})
    ]
    for key in ("target", *measured):
        one, other = accuracy.get(key), benchmark.get(key)
        same = (
            one == other if key == "target" else (one or {}).get("engine_sha256") == (other or {}).get("engine_sha256")
        )
        if not same:
            what = "another target" if key == "target" else f"another {key} engine"
            raise StaleArtifact(
                f"the metrics of benchmark_sustained are of {what} than those of validate_accuracy; run `dvc repro`"
            )


def _scenario(benchmark: Metrics) -> str:
    """Offline, whose figure is throughput, if it was measured."""
    measured: list[str] = benchmark["settings"]["scenarios"]
    return ScenarioName.offline.value if ScenarioName.offline.value in measured else measured[0]


def _front(frame: pd.DataFrame) -> list[bool]:
    """Rows that no other row dominates (V. Pareto): as fast and as accurate, and better in one of them."""
    points = list(zip(frame["throughput_images_per_s"], frame["value"]))
    return [
        not any(speed >= point[0] and worth >= point[1] and (speed, worth) != point for speed, worth in points)
        for point in points
    ]
