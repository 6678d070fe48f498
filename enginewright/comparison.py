"""What the precisions give and cost, side by side, and against records of another time or place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Optional

from enginewright import registry
from enginewright.benchmark.int8_speed import slower_under_load
from enginewright.config import Precision, ScenarioName
from enginewright.results.accuracy import AccuracyResult, EngineAccuracy, Gate, Held, Verdict
from enginewright.results.builds import BuildOutcome
from enginewright.results.origin import Origin
from enginewright.results.speed import EngineSpeed, SpeedResult
from enginewright.results.verdicts import Outcome
from enginewright.tasks import get_task
from enginewright.tasks.base import AGREEMENT

PRECISIONS = tuple(precision.value for precision in Precision)
TASKS = {task.metric: task for task in map(get_task, registry.TASKS.names())}  # by what their metrics name
DIGEST = 12  # hex digits of a sha256 that people see
AGREES = "agreement with fp32"


@dataclass(frozen=True)
class Measured:
    """What stages found at one time in one place; None of a stage that is not there."""

    accuracy: Optional[AccuracyResult]
    speed: Optional[SpeedResult]
    builds: Mapping[Precision, BuildOutcome]

    @property
    def origins(self) -> dict[str, Origin]:
        """Stage -> what its figures are of."""
        found = {}
        if self.accuracy is not None:
            found["validate_accuracy"] = self.accuracy.origin
        if self.speed is not None:
            found["benchmark_sustained"] = self.speed.origin
        for precision, build in self.builds.items():
            found[f"build_{precision.value}"] = build.origin or Origin({})
        return found

    def without(self, stages: Iterable[str]) -> Measured:
        """All but these stages."""
        left = set(stages)
        return Measured(
            None if "validate_accuracy" in left else self.accuracy,
            None if "benchmark_sustained" in left else self.speed,
            {precision: build for precision, build in self.builds.items() if f"build_{precision.value}" not in left},
        )


Value = Callable[[Measured, Precision], Any]


class Figure(NamedTuple):
    """A row of the table."""

    id: str  # in --json
    name: str
    value: Value
    form: str
    change: str = "relative"  # to the committed figure: "relative", "absolute", or "" where it says nothing
    scale: float = 1.0


def _accuracy(key: str) -> Value:
    def value(measured: Measured, precision: Precision) -> Any:
        engine = None if measured.accuracy is None else measured.accuracy.engines.get(precision)
        return None if engine is None else engine.figures.get(key)

    return value


def _load(scenario: ScenarioName, key: str) -> Value:
    return lambda measured, precision: measured.speed and measured.speed.figure(precision, scenario, key)


def _whole(largest: bool) -> Value:
    def value(measured: Measured, precision: Precision) -> Any:
        way = None if measured.speed is None else measured.speed.whole(precision, largest)
        return None if way is None else way.figures.get("images_per_s_whole")

    return value


def _build(key: str) -> Value:
    def value(measured: Measured, precision: Precision) -> Any:
        build = measured.builds.get(precision)
        return None if build is None else build.figures.get(key)

    return value


def _to_fp32(measured: Measured, precision: Precision) -> Any:
    return measured.speed and measured.speed.ratios(ScenarioName.offline).get(precision)


def _of_task(metric: str, title: str) -> tuple[Figure, Figure]:
    key = f"{metric}_difference"
    return (
        Figure(metric, title, _accuracy(metric), ".4f", "absolute"),
        Figure(key, f"{title} - fp32's (pp)", _accuracy(key), "+.2f", "", 100.0),
    )


RATE = ".4g"  # below 1000; whole numbers above
OFFLINE, ONE = ScenarioName.offline, ScenarioName.single_stream
FIGURES = (
    *(figure for task in TASKS.values() for figure in _of_task(task.metric, task.title)),
    Figure(AGREEMENT, AGREES, _accuracy(AGREEMENT), ".4f", "absolute"),
    Figure("sqnr_db", "SQNR (dB)", _accuracy("sqnr_db"), ".1f", "absolute"),
    Figure("throughput_images_per_s", "images/s (offline)", _load(OFFLINE, "throughput_images_per_s"), RATE),
    Figure("throughput_to_fp32", "images/s / fp32's", _to_fp32, ".2f", "absolute"),
    Figure("images_per_s_whole_one", "images/s (whole way, one at a time)", _whole(largest=False), RATE),
    Figure("images_per_s_whole", "images/s (whole way, in batches)", _whole(largest=True), RATE),
    Figure("queries_per_s_server", "queries/s (server)", _load(ScenarioName.server, "highest_queries_per_s"), RATE),
    Figure("latency_ms_p50", "latency p50 (ms)", _load(ONE, "latency_ms_p50"), ".3f"),
    Figure("latency_ms_p99", "latency p99 (ms)", _load(ONE, "latency_ms_p99"), ".3f"),
    Figure("latency_ms_p99_9", "latency p99.9 (ms)", _load(ONE, "latency_ms_p99_9"), ".3f"),
    Figure("device_ms_p50", "device p50 (ms)", _load(ONE, "device_ms_p50"), ".3f"),
    Figure("last_to_first", "last / first minute", _load(OFFLINE, "last_to_first"), ".3f", ""),
    Figure("engine_mib", "engine (MiB)", _build("size_mib"), ".2f"),
    Figure("int8_share", "layers in INT8 (%)", _build("int8_share"), ".0f", "absolute", 100.0),
    Figure("build_seconds", "build (s)", _build("seconds"), ".2f", ""),
)


@dataclass
class Comparison:
    """All that is shown, JSON-ready by `vars`."""

    figures: dict[str, dict[str, Optional[float]]]  # id -> precision -> value
    interval: dict[str, tuple[float, float]]  # precision -> of the difference with FP32 in the task's figure
    target: dict[str, str]
    notes: list[str]
    gate: list[str]
    revision: Optional[str] = None
    revision_figures: dict[str, dict[str, Optional[float]]] = field(default_factory=dict)


def compare(
    here: Measured, committed: Optional[Measured], revision: str, *, across: bool = False, also: Iterable[str] = ()
) -> Comparison:
    """Put the precisions side by side, and beside what was committed.

    Args:
        here: what lies here. What is not of the model, images and target of its accuracy is left out.
        committed: what to show the change since; None for nothing.
        revision: its name.
        across: show the change even since figures of another model, other images or another target.
        also: notes about the files.
    """
    anchor = here.accuracy.origin if here.accuracy is not None else Origin({})
    reasons = foreign(here, anchor)
    shown = here.without(reasons)
    target = anchor.target or (here.speed.origin.target if here.speed is not None else {})
    found = Comparison(_figures(shown), dict(_intervals(here.accuracy)), dict(target), list(_notes(shown)), [])
    found.gate = _gate(here.accuracy)
    if here.accuracy is not None and anchor.model_sha256 is None:
        found.notes.append(
            "validate_accuracy does not say of which model and images it is, so the rest may be of others; run `dvc"
            " repro`"
        )
    found.notes += (f"{text}; run `dvc repro` to measure all of one" for text in _left_out(reasons, ""))
    found.notes += also
    if committed is not None:
        reasons = foreign(committed, anchor)
        before = committed if across else committed.without(reasons)
        if before.origins:
            found = replace(found, revision=revision, revision_figures=_figures(before))
        found.notes += _against(revision, reasons, across)
    return found


def foreign(measured: Measured, anchor: Origin) -> dict[str, str]:
    """Stages whose figures are not of the model, images and target of `anchor`, and why, in words.

    Figures that do not say what they are of, as versions before 0.2 wrote them, could be of anything.
    """
    reasons = {stage: _differences(stage, origin, anchor) for stage, origin in measured.origins.items()}
    return {stage: reason for stage, reason in reasons.items() if reason}


def _differences(stage: str, origin: Origin, anchor: Origin) -> str:
    pairs = {"model": (origin.model_sha256, anchor.model_sha256)}
    if not stage.startswith("build_"):  # an engine is built without images
        pairs["images"] = (origin.images_sha256, anchor.images_sha256)
    wanted = {name: pair for name, pair in pairs.items() if pair[1] is not None}
    differing = [
        f"{name} {its[:DIGEST]} instead of {str(anchors)[:DIGEST]}"
        for name, (its, anchors) in wanted.items()
        if its is not None and its != anchors
    ]
    differing += _targets(origin.target, anchor.target)
    unsaid = [name for name, (its, _) in wanted.items() if its is None]
    return ", ".join(differing) or (f"it does not say of which {' and '.join(unsaid)}" if unsaid else "")


def _targets(its: Mapping[str, str], anchors: Mapping[str, str]) -> Iterator[str]:
    if not its or not anchors:
        return
    for name in sorted({*its, *anchors}):
        if its.get(name) != anchors.get(name):
            yield f"{name} {its.get(name, 'none')} instead of {anchors.get(name, 'none')}"


def _left_out(reasons: Mapping[str, str], whose: str) -> Iterator[str]:
    """A sentence for each reason, with the stages that share it."""
    for reason in dict.fromkeys(reasons.values()):
        stages = [stage for stage, why in reasons.items() if why == reason]
        yield (
            f"left out: {', '.join(stages)}{whose}, as {'it is' if len(stages) == 1 else 'they are'} of another record"
            f" ({reason})"
        )


def _against(revision: str, reasons: Mapping[str, str], across: bool) -> Iterator[str]:
    """Whether the figures of a revision are of the same model, images and target."""
    if not reasons:
        yield f"figures of {revision} are of the same model, images and target"
    elif across:
        for reason in dict.fromkeys(reasons.values()):
            stages = ", ".join(stage for stage, why in reasons.items() if why == reason)
            yield f"figures of {revision} are of another record ({reason}): {stages}"
    else:
        for text in _left_out(reasons, f" of {revision}"):
            yield f"{text}; --across shows the change all the same"


def _figures(measured: Measured) -> dict[str, dict[str, Optional[float]]]:
    """Id -> precision -> value; figures that no precision has are left out."""
    found = {}
    for figure in FIGURES:
        values = {precision.value: _number(figure, measured, precision) for precision in Precision}
        if any(value is not None for value in values.values()):
            found[figure.id] = values
    return found


def _number(figure: Figure, measured: Measured, precision: Precision) -> Optional[float]:
    value = figure.value(measured, precision)
    return float(value) * figure.scale if isinstance(value, (int, float)) and math.isfinite(value) else None


def _intervals(accuracy: Optional[AccuracyResult]) -> Iterator[tuple[str, tuple[float, float]]]:
    for precision, engine in ({} if accuracy is None else accuracy.engines).items():
        difference = engine.difference
        if difference is not None and difference.low is not None and difference.high is not None:
            yield precision.value, (float(difference.low), float(difference.high))


def _gate(accuracy: Optional[AccuracyResult]) -> list[str]:
    """The verdicts in words; empty where the gate did not judge."""
    if accuracy is None or accuracy.gate is None:
        return []
    gate = accuracy.gate
    return [_verdict(precision.value, verdict, gate) for precision, verdict in gate.engines.items()]


def _verdict(precision: str, verdict: Verdict, gate: Gate) -> str:
    metric = verdict.metric
    figure = AGREES if gate.figure == AGREEMENT else TASKS[gate.figure].title if gate.figure in TASKS else gate.figure
    says = {Outcome.passed: "passes", Outcome.failed: "FAILS", Outcome.undecided: "is UNDECIDED"}[verdict.outcome]
    interval = "" if math.isnan(metric.low) else f" ({metric.low:.4f} to {metric.high:.4f})"
    text = f"{precision} {says}: {figure} is {metric.value:.4f}{interval}, the bound {metric.bound:.4f} ({gate.mode})"
    text += "" if verdict.noise is None else _noise(verdict.noise)
    return text + (f"; about {verdict.needed:,} images would decide" if verdict.needed is not None else "")


def _noise(noise: Held) -> str:
    limits = f"{noise.low:.1f} to {noise.high:.1f} dB" if math.isfinite(noise.low) else "of too few images"
    missed = "" if noise.outcome is Outcome.passed else f" ({noise.outcome.value.upper()})"
    return f"; SQNR {limits}, the floor {noise.bound:.1f} dB{missed}"


def _notes(measured: Measured) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    accuracy, speed = measured.accuracy, measured.speed
    if speed is not None and (load := speed.settings) is not None:
        scenarios = ", ".join(scenario.value for scenario in load.scenarios)
        yield (
            f"load: {scenarios} (offline in batches of {load.batch_size}), {load.seconds:g} s for each precision"
            f" and scenario; measured at {speed.measured_at}"
        )
    if accuracy is not None and accuracy.images is not None:
        yield _images(accuracy)
    for precision in Precision:
        yield from _of_precision(
            precision.value,
            None if accuracy is None else accuracy.engines.get(precision),
            None if speed is None else speed.engines.get(precision),
        )
        build = measured.builds.get(precision)
        yield from (f"{precision.value}: {finding}" for finding in (build.figures.get("findings", ()) if build else ()))
    yield from (f"not judged: {why}" for why in (accuracy.not_judged.values() if accuracy is not None else ()))
    if speed is not None:
        yield from slower_under_load(speed)
        if not speed.complete:
            yield "the load was interrupted: speed covers a part of it"


def _images(accuracy: AccuracyResult) -> str:
    if not accuracy.labels:
        judged = AGREEMENT if accuracy.gate is None else accuracy.gate.figure
        own = judged in TASKS and TASKS[judged].every_output
        stands_in = (
            f"the gate judges the {TASKS[judged].title}" if own else f"{AGREES} stands in for the figure of the task"
        )
        return f"accuracy: {accuracy.images} images without labels: {stands_in}"
    known = accuracy.confidence is not None
    confidence = f"; {accuracy.confidence:.0%} intervals of paired answers, in percentage points" if known else ""
    return f"accuracy: {accuracy.images} images{confidence}"


def _of_precision(precision: str, accuracy: Optional[EngineAccuracy], speed: Optional[EngineSpeed]) -> Iterator[str]:
    if accuracy is not None:
        if accuracy.stands_in is not None:
            yield f"accuracy of {precision} is what {accuracy.stands_in} computes; the target has no such engine"
        if speed is not None and accuracy.engine_sha256 != speed.engine_sha256:
            yield f"accuracy and speed of {precision} are of two different engines; run `dvc repro`"
        if accuracy.figures.get("identical_to_fp32"):
            yield f"{precision} answers bit for bit as fp32 does: the runtime may have built the same engine"
    for scenario, load in ({} if speed is None else speed.loads).items():
        if busy := load.disturbed_by:
            yield f"speed of {precision} ({scenario.value}) is disturbed: other processes kept {busy:.1f} cores busy"
        if load.stable is False:
            yield f"{precision} was not stable ({scenario.value}): {load.words['stability']}"
        if others := load.named("other_processes", "none"):
            yield f"others were on the device under {precision} ({scenario.value}): {others}"
        if throttled := load.named("throttled", "no"):
            yield f"the device throttled under {precision} ({scenario.value}): {throttled}"
