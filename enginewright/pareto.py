"""Accuracy against throughput, engine by engine: which of them no other beats in both, and which is the fastest that
passes the gate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Optional

from enginewright.benchmark.int8_speed import slower
from enginewright.config import QUANTIZED, Calibration, Data, Precision, ScenarioName
from enginewright.errors import StaleArtifact
from enginewright.results.accuracy import AccuracyResult, Gate
from enginewright.results.pareto import ParetoResult, ParetoRow
from enginewright.results.speed import SpeedResult
from enginewright.results.verdicts import Outcome

if TYPE_CHECKING:
    import pandas as pd

NOT_CALIBRATED = "none"


def compare(accuracy: AccuracyResult, speed: SpeedResult, calibration: str) -> ParetoResult:
    """Put both figures of each engine side by side.

    Args:
        accuracy: of validate_accuracy.
        speed: of benchmark_sustained.
        calibration: what the scales of the INT8 engines come from, in words.

    Raises:
        StaleArtifact: the two were not measured on the same engines, or on the same target.
    """
    _require_the_same(accuracy, speed)
    rows = list(_rows(accuracy, speed, calibration))
    front = _front(rows)
    return ParetoResult(
        tuple(dataclasses.replace(row, front=on_it) for row, on_it in zip(rows, front)), tuple(findings(rows))
    )


def table(result: ParetoResult) -> pd.DataFrame:
    """The rows as a table: a column for each field, and `holds`, whether the engine passed."""
    import pandas as pd

    frame = pd.DataFrame([{**row.to_json(), "holds": row.holds} for row in result.rows])
    front = frame.pop("front")
    return frame.astype({"speedup": float, "bound": float}).assign(front=front)


def calibration_name(calibration: Calibration, data: Data) -> str:
    """Algorithm, images and selection."""
    return f"{calibration.algorithm.value}, {data.calibration_images} {data.selection.value}"


def findings(rows: Sequence[ParetoRow]) -> Iterator[str]:
    """Which INT8 engines are slower than FP16's, a sentence each."""
    rates = {row.precision: row.throughput_images_per_s for row in rows}
    for row in rows:
        if row.precision in QUANTIZED and (
            finding := slower(
                row.precision.value,
                row.throughput_images_per_s,
                rates.get(Precision.fp16, 0.0),
                "images/s",
                row.scenario,
            )
        ):
            yield finding


def _rows(accuracy: AccuracyResult, speed: SpeedResult, calibration: str) -> Iterator[ParetoRow]:
    if accuracy.gate is None:
        return
    scenario, gate = _scenario(speed), accuracy.gate
    ratios = {Precision.fp32: 1.0, **speed.ratios(scenario)}
    for precision, found in accuracy.engines.items():
        load = speed.load(precision, scenario)
        if load is None:
            continue
        value = float(found.figures.get(gate.figure, 1.0))  # FP32 agrees with itself
        outcome, low, high = _judged(gate, precision, value)
        yield ParetoRow(
            precision,
            found.engine_sha256,
            calibration if precision in QUANTIZED else NOT_CALIBRATED,
            scenario.value,
            load.throughput,
            ratios.get(precision),
            gate.figure,
            value,
            low,
            high,
            gate.bound,
            outcome,
            front=False,  # known of all together
        )


def _judged(gate: Gate, precision: Precision, value: float) -> tuple[Outcome, float, float]:
    """The gate's verdict and the interval that it judges; FP32, which is not judged, reaches the bound or not."""
    verdict = gate.engines.get(precision)
    if verdict is not None:
        return verdict.outcome, verdict.metric.low, verdict.metric.high
    missed = gate.bound is not None and value < gate.bound
    return Outcome.failed if missed else Outcome.passed, value, value


def _require_the_same(accuracy: AccuracyResult, speed: SpeedResult) -> None:
    what: Optional[str] = None
    if accuracy.origin.target != speed.origin.target:
        what = "another target"
    for precision in Precision:
        one, other = accuracy.engines.get(precision), speed.engines.get(precision)
        if precision in accuracy.not_judged or (one is not None and one.stands_in is not None):
            continue
        if (one and one.engine_sha256) != (other and other.engine_sha256):
            what = what or f"another {precision.value} engine"
    if what is not None:
        raise StaleArtifact(
            f"the metrics of benchmark_sustained are of {what} than those of validate_accuracy; run `dvc repro`"
        )


def _scenario(speed: SpeedResult) -> ScenarioName:
    """Offline, whose figure is throughput, if it was measured."""
    measured = speed.settings.scenarios if speed.settings is not None else tuple(ScenarioName)
    return ScenarioName.offline if ScenarioName.offline in measured else measured[0]


def _front(rows: Sequence[ParetoRow]) -> list[bool]:
    """Rows that no other row dominates (V. Pareto): as fast and as accurate, and better in one of them."""
    points = [(row.throughput_images_per_s, row.value) for row in rows]
    return [
        not any(speed >= point[0] and worth >= point[1] and (speed, worth) != point for speed, worth in points)
        for point in points
    ]
