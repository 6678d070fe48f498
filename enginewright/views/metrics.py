"""Records as DVC's metrics: what artifacts/metrics/ holds, with precisions and scenarios beside what they are of.

Metrics are outs of their stages, so that this view alone counts among what decides bytes; `committed` reads them.
"""

from __future__ import annotations

import math
from typing import Any, Optional

from enginewright.results.accuracy import AccuracyResult, EngineAccuracy, Gate, Verdict
from enginewright.results.calibration import CalibrationResult
from enginewright.results.layers import MixtureResult, ProfileResult, SensitivityResult
from enginewright.results.pareto import ParetoResult
from enginewright.results.record import Record
from enginewright.results.shape import SampleShape
from enginewright.results.speed import EngineSpeed, LoadSpeed, SpeedResult, WholeSpeed
from enginewright.results.verdicts import Drift

SQNR = "sqnr_db"
RESIDENT = "resident_mib_"
BATCH_SIZE = "batch_"
ABSENT = "_absent"


def of_accuracy(result: AccuracyResult) -> dict[str, Any]:
    """The metrics of validate_accuracy."""
    not_judged = {precision.value: why for precision, why in result.not_judged.items()}
    return {
        **{precision.value: _of_engine(engine) for precision, engine in result.engines.items()},
        **({"not_judged": not_judged} if not_judged else {}),
        **({} if result.gate is None else {"gate": of_gate(result.gate)}),
        "labels": result.labels,
        **({} if result.class_order is None else {"class_order": result.class_order}),
        "images": result.images,
        **_of_shape(result.shape),
        "confidence": result.confidence,
        **result.origin.to_figures(),
    }


def of_gate(gate: Gate) -> dict[str, Any]:
    """The worst verdict of the gated engines, and a section for each engine that was judged."""
    return {
        "verdict": gate.verdict,
        "passed": gate.passed,
        "mode": gate.mode,
        "figure": gate.figure,
        "if_undecided": gate.if_undecided,
        **{precision.value: of_verdict(verdict) for precision, verdict in gate.engines.items()},
    }


def of_verdict(verdict: Verdict) -> dict[str, Any]:
    """One engine's section of `of_gate`."""
    metric, noise = verdict.metric, verdict.noise
    found: dict[str, Any] = {"verdict": verdict.outcome.value, "passed": verdict.passed}
    found.update(value=metric.value, low=metric.low, high=metric.high, bound=metric.bound)
    if verdict.needed is not None:
        found["images_to_decide"] = verdict.needed
    if noise is not None:
        found.update({f"{SQNR}_verdict": noise.outcome.value, f"minimum_{SQNR}": noise.bound})
        limits = {f"{SQNR}_low": noise.low, f"{SQNR}_high": noise.high}
        found.update({key: value for key, value in limits.items() if math.isfinite(value)})
    return found


def of_speed(result: SpeedResult) -> dict[str, Any]:
    """The metrics of benchmark_sustained."""
    settings = {} if result.settings is None else result.settings.to_json()
    scenarios = () if result.settings is None else result.settings.scenarios
    return {
        **{precision.value: _of_loaded(engine) for precision, engine in result.engines.items()},
        "ratio": {
            scenario.value: {
                f"{precision.value}_to_fp32": ratio for precision, ratio in result.ratios(scenario).items()
            }
            for scenario in scenarios
        },
        "settings": settings,
        **_of_shape(result.shape),
        "versions": dict(result.versions),
        "measured_at": result.measured_at,
        **result.origin.to_figures(),
        "device_state": dict(result.device_state),
        "complete": result.complete,
    }


def of_pareto(result: ParetoResult) -> dict[str, Any]:
    """The engine to deploy and what it gives; of all rows which are on the front, and what was found."""
    chosen, first = result.chosen, result.rows[0]
    best: dict[str, Any] = {"fastest_that_holds": "none"}
    if chosen is not None:
        speedup = {} if chosen.speedup is None else {"speedup": chosen.speedup}
        best = {"fastest_that_holds": chosen.precision.value, **speedup, "value": chosen.value}
    return {
        **best,
        "undecided": " ".join(precision.value for precision in result.undecided) or "none",
        "figure": first.figure,
        **({} if first.bound is None else {"bound": first.bound}),
        "front": " ".join(row.precision.value for row in result.rows if row.front),
        "findings": list(result.findings),
    }


def of_drift(result: Drift) -> dict[str, Any]:
    """The metrics of check_drift."""
    if not result.observed:
        return {"observed": False}
    rows = result.tensors
    found = {
        "observed": True,
        **{f"{name}_images": count for name, count in result.images.items()},
        "tensors": len(rows),
        "drifted_tensors": result.drifted_tensors,
    }
    if not rows:
        return found
    excess = max(float(row["validation_saturated"] - row["calibration_saturated"]) for row in rows)
    return {
        **found,
        "worst_tensor": str(rows[0]["tensor"]),
        "worst_severity": float(rows[0]["severity"]),
        "distance_max": max(float(row["distance"]) for row in rows),
        "percentile_ratio_max": max(float(row["percentile_ratio"]) for row in rows),
        "saturation_excess_max": excess,
    }


def of_profile(result: ProfileResult) -> dict[str, Any]:
    """The metrics of profile_layers."""
    return {
        "batch_size": result.batch_size,
        **_of_shape(result.shape),
        **{precision.value: engine.to_json() for precision, engine in result.engines.items()},
        **({} if result.int8_blocks is None else {"int8_blocks": dict(result.int8_blocks)}),
        "findings": list(result.findings),
    }


def of_calibration(result: CalibrationResult) -> dict[str, Any]:
    """The metrics of calibrate."""
    ranges = {key: value for key, value in result.ranges.to_json().items() if value is not None}
    own = {"images": result.images, "seconds": result.seconds, "corrected_layers": result.corrected_layers}
    return {**own, **ranges}


def of_sensitivity(result: SensitivityResult) -> dict[str, Any]:
    """The metrics of analyze_sensitivity."""
    found = _known(result)
    return {**{f"int8_{name}": value for name, value in found.pop("int8").items()}, **found}


def of_mixture(result: MixtureResult) -> dict[str, Any]:
    """The metrics of search_mixed."""
    return _known(result)


def _known(result: Record) -> dict[str, Any]:
    """The fields of a record that say something."""
    return {name: value for name, value in result.to_json().items() if value is not None}


def _of_engine(engine: EngineAccuracy) -> dict[str, Any]:
    return {
        **engine.figures,
        "engine_sha256": engine.engine_sha256,
        **({"findings": list(engine.findings)} if engine.findings else {}),
        **({} if engine.stands_in is None else {"stands_in": engine.stands_in}),
    }


def _of_loaded(engine: EngineSpeed) -> dict[str, Any]:
    return {
        **{scenario.value: _of_load(load) for scenario, load in engine.loads.items()},
        "batch_curve": dict(engine.batch_curve),
        **{f"{RESIDENT}{moment}": value for moment, value in engine.resident_mib.items()},
        **(
            {"whole": {f"{BATCH_SIZE}{way.batch_size}": _of_whole(way) for way in engine.whole}} if engine.whole else {}
        ),
        "engine_sha256": engine.engine_sha256,
    }


def _of_whole(way: WholeSpeed) -> dict[str, Any]:
    return {**way.figures, **{f"{part}{ABSENT}": why for part, why in way.absent.items()}}


def _of_load(load: LoadSpeed) -> dict[str, Any]:
    return {
        **load.figures,
        **load.words,
        **({} if load.stable is None else {"stable": load.stable}),
        **({"loadgen": dict(load.loadgen)} if load.loadgen else {}),
    }


def _of_shape(shape: Optional[SampleShape]) -> dict[str, Any]:
    """What was fed: one text, since DVC compares lists item by item."""
    return {} if shape is None else {"shape": shape.says()}
