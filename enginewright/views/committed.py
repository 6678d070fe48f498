"""DVC's metrics as records: what artifacts/metrics/ holds, here, in revisions of git, and from other machines.

Versions of old wrote less, and their figures are read all the same. What stages compute with are the records among
their outputs, which are read strictly (`Record.read`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Optional

from enginewright import registry
from enginewright.config import Precision, ScenarioName
from enginewright.results.accuracy import AccuracyResult, EngineAccuracy, Gate, Held, Verdict, difference_in
from enginewright.results.builds import BuildOutcome, BuildState
from enginewright.results.origin import Origin
from enginewright.results.shape import SampleShape
from enginewright.results.speed import EngineSpeed, LoadSettings, LoadSpeed, SpeedResult, WholeSpeed
from enginewright.results.verdicts import Outcome
from enginewright.tasks import get_task
from enginewright.views.metrics import ABSENT, BATCH_SIZE, RESIDENT, SQNR

Metrics = Mapping[str, Any]
SHAPE = re.compile(r"(?:^|, )([^\[\]]+?) \[([\d, ]*)\]")
COUNTED = re.compile(r"the shape of (\d+) of (\d+) samples \((\d+) shapes\)$")
UNSAID = math.nan  # a number that versions of old did not write


def read_accuracy(metrics: Metrics) -> AccuracyResult:
    """The record that metrics of validate_accuracy are of."""
    gate = metrics.get("gate")
    images = metrics.get("images")
    return AccuracyResult(
        {precision: _engine(metrics[precision.value]) for precision in Precision if precision.value in metrics},
        {Precision(name): why for name, why in metrics.get("not_judged", {}).items()},
        _gate(gate, images or 0) if gate else None,
        metrics.get("labels", True),
        images,
        metrics.get("confidence"),
        Origin.from_figures(metrics),
        shape=_shape(metrics.get("shape")),
    )


def read_speed(metrics: Metrics) -> SpeedResult:
    """The record that metrics of benchmark_sustained are of."""
    settings = metrics.get("settings")
    return SpeedResult(
        {precision: _loaded(metrics[precision.value]) for precision in Precision if precision.value in metrics},
        _settings(settings) if settings else None,
        Origin.from_figures(metrics),
        metrics.get("versions", {}),
        metrics.get("measured_at", "an unknown time"),
        metrics.get("device_state", {}),
        metrics.get("complete", True),
        shape=_shape(metrics.get("shape")),
    )


def read_build(precision: Precision, metrics: Metrics) -> BuildOutcome:
    """The record that metrics of a build stage are of."""
    return BuildOutcome.from_json({"precision": precision.value, "outcome": BuildState.built.value, **metrics})


def _shape(said: Optional[str]) -> Optional[SampleShape]:
    """Inverse of `SampleShape.says`, which counts the samples only where there are several shapes."""
    if said is None:
        return None
    inputs = {name: tuple(map(int, axes.split(", "))) if axes else () for name, axes in SHAPE.findall(said)}
    counted = COUNTED.search(said)
    return SampleShape(inputs, *(map(int, counted.groups()) if counted else (1, 1, 1)))


def _engine(metrics: Metrics) -> EngineAccuracy:
    figures = {key: value for key, value in metrics.items() if key not in ("engine_sha256", "findings", "stands_in")}
    return EngineAccuracy(
        metrics.get("engine_sha256", ""),
        figures,
        difference_in(figures, (get_task(name).metric for name in registry.TASKS.names())),
        tuple(metrics.get("findings", ())),
        metrics.get("stands_in"),
    )


def _gate(metrics: Metrics, images: int) -> Gate:
    mode, figure = metrics["mode"], metrics["figure"]
    passed = metrics["passed"]
    return Gate(
        mode,
        figure,
        metrics.get("verdict", Outcome.passed.value if passed else Outcome.failed.value),
        passed,
        metrics.get("if_undecided", ""),
        {
            precision: _verdict(metrics[precision.value], figure, images)
            for precision in Precision
            if precision.value in metrics
        },
    )


def _verdict(metrics: Metrics, figure: str, images: int) -> Verdict:
    """Metrics say what became of the noise and of both together; the metric gets the latter."""
    needed = metrics.get("images_to_decide")
    outcome = Outcome(metrics.get("verdict", "passed" if metrics["passed"] else "failed"))
    value, low, high, bound = (
        metrics["value"],
        metrics.get("low", UNSAID),
        metrics.get("high", UNSAID),
        metrics["bound"],
    )
    metric = Held(outcome, figure, value, low, high, bound, "", images, needed)
    if f"minimum_{SQNR}" not in metrics:
        return Verdict(metric)
    limits = metrics.get(f"{SQNR}_low", -math.inf), metrics.get(f"{SQNR}_high", math.inf)
    floor = metrics[f"minimum_{SQNR}"]
    noise = Outcome(metrics[f"{SQNR}_verdict"])
    return Verdict(metric, Held(noise, SQNR, UNSAID, *limits, floor, "", images, needed))


def _loaded(metrics: Metrics) -> EngineSpeed:
    return EngineSpeed(
        metrics.get("engine_sha256", ""),
        {scenario: LoadSpeed.of(metrics[scenario.value]) for scenario in ScenarioName if scenario.value in metrics},
        metrics.get("batch_curve", {}),
        {key[len(RESIDENT) :]: value for key, value in metrics.items() if key.startswith(RESIDENT)},
        tuple(
            sorted(
                (_whole(int(key[len(BATCH_SIZE) :]), found) for key, found in metrics.get("whole", {}).items()),
                key=lambda way: way.batch_size,
            )
        ),
    )


def _whole(batch: int, metrics: Metrics) -> WholeSpeed:
    absent = {key[: -len(ABSENT)]: why for key, why in metrics.items() if key.endswith(ABSENT)}
    return WholeSpeed(batch, {key: value for key, value in metrics.items() if not key.endswith(ABSENT)}, absent)


def _settings(metrics: Metrics) -> Optional[LoadSettings]:
    return LoadSettings(
        tuple(map(ScenarioName, metrics["scenarios"])),
        metrics["batch_size"],
        metrics["seconds"],
        metrics.get("warmup_seconds", UNSAID),
        metrics.get("window_seconds", UNSAID),
    )
