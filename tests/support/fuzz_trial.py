"""What every random graph is put through: the check, calibration, both placements, every precision, and a run of each
engine.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
from onnx import ModelProto

from enginewright.calibration.mixture import float_nodes
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.check_onnx import Severity, inspect
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.errors import EnginewrightError
from enginewright.graph.qdq import quantizable
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.session import Purpose, open_session
from support.fuzz import BATCH, BATCHES, Sample
from support.fuzz_draft import Array
from support.reference import quantized_tensors, simulated, sqnr_db, without_pairs

INT8_DB = 3.0  # how far an INT8 engine may lie below the simulation of its own graph
FP16_DB = 40.0
FP32_DB = 70.0  # of float32 itself; InstanceNormalization over eight values loses the most
FAITHFUL_DB = {
    Placement.tensorrt: 80.0,
    Placement.onnxruntime: 22.0,
}  # without rounded activations; the latter stores rounded weights
# What rounding a Gaussian over four standard deviations to 8 bits leaves is 40.9 dB; nothing beyond is compared. ONNX
# Runtime moves a Q above a Transpose or MaxPool, and so rounds once an output between them that the graph leaves alone.
EXACT_DB = 40.0
SETTINGS = Build()
AXES = batches(1, BATCH, BATCH * BATCHES)
ALGORITHMS = (CalibrationAlgorithm.minmax, CalibrationAlgorithm.entropy, CalibrationAlgorithm.percentile)


@dataclass
class Outcome:
    """What came of one graph."""

    seed: int
    problems: list[str] = field(default_factory=list)  # each of them is a bug of ours
    refusals: list[str] = field(default_factory=list)  # sentences that it was refused with
    operators: tuple[str, ...] = ()  # of a graph that went all the way
    decibels: dict[str, float] = field(default_factory=dict)  # the least of its outputs
    layers: int = 0
    integer_layers: int = 0
    builds: int = 0


def trial(drawn: Sample, folder: Path, asks_rtx: bool = False) -> Outcome:
    """Put a graph that every runtime should take through everything."""
    outcome = Outcome(drawn.seed)
    path = folder / "model.onnx"
    onnx.save(drawn.model, str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recipe = _calibrated(outcome, drawn, path) if _passes(outcome, path) else None
        if recipe is None:
            return outcome
        for placement in Placement:
            with _step(outcome, f"insert_qdq {placement.name}"):
                quantized = quantize(drawn.model, recipe, placement).model
                _placed(outcome, drawn, quantized, placement, recipe.bias_correction is not None)
        for precision in Precision:
            with _step(outcome, f"build {precision.name}"):
                _built(outcome, drawn, path, precision, recipe)
        if asks_rtx:
            with _step(outcome, "TensorRT-RTX"):
                _by_rtx(path, recipe)
    if not outcome.refusals and not outcome.problems:
        outcome.operators = tuple(node.op_type for node in drawn.model.graph.node)
    return outcome


@contextlib.contextmanager
def _step(outcome: Outcome, what: str) -> Iterator[None]:
    """A sentence of ours is a refusal; anything else that is raised is a bug. Either way the other steps still run."""
    try:
        yield
    except EnginewrightError as fault:
        outcome.refusals.append(f"{what}: {type(fault).__name__}: {fault}")
    except Exception as fault:  # noqa: BLE001 (what a fuzz is for)
        ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(fault.__traceback__)]
        words = " ".join(str(fault).split())[:300]
        outcome.problems.append(f"traceback: {what}: {type(fault).__name__}: {words} ({' '.join(ours[-4:])})")


def _passes(outcome: Outcome, path: Path) -> bool:
    """Whether check_onnx passes a graph that runs. A refusal by a parser is a reason; any other is the check's own
    mistake.
    """
    with _step(outcome, "check_onnx"):
        report = inspect(path)
        if report.verdict == "pass":
            return True
        outcome.refusals.append(f"check_onnx: {report.failure()}")
        if not all("parser of" in finding.what for finding in report.findings if finding.severity is Severity.fail):
            outcome.problems.append(f"disagreement: {report.failure()}")
    return False


def _calibrated(outcome: Outcome, drawn: Sample, path: Path) -> Optional[QuantizationRecipe]:
    algorithm = ALGORITHMS[drawn.seed % len(ALGORITHMS)]
    recipe = None
    with _step(outcome, f"calibrate {algorithm.name}"):
        recipe = QuantizationRecipe(RUNTIME.calibrate(path, drawn.batches, Calibration(algorithm=algorithm)))
    if recipe is not None and drawn.seed % 4 == 3:
        with _step(outcome, "bias_correction"):
            recipe = replace(recipe, bias_correction=measure_bias_correction(path, drawn.batches))
    return recipe


def _placed(outcome: Outcome, drawn: Sample, quantized: ModelProto, placement: Placement, corrected: bool) -> None:
    """The Q/DQ graph is valid, means the float model, its ranges hold the values, and a session computes what it
    says.
    """
    try:
        onnx.checker.check_model(quantized, full_check=True)
    except Exception as fault:  # noqa: BLE001 (of any kind: the file is invalid)
        outcome.problems.append(f"invalid: {placement.name}: {' '.join(str(fault).split())[:300]}")
        return
    stripped = simulated(without_pairs(quantized), drawn.feeds)
    worst = _worst(drawn, drawn.held, stripped)
    if worst < (22.0 if corrected else FAITHFUL_DB[placement]):
        outcome.problems.append(f"meaning: {placement.name} without its pairs is {worst:.1f} dB from the float model")
    if drawn.seed % len(ALGORITHMS) == 0 and not corrected:
        outcome.problems += _ranges(quantized, stripped, placement)
    session = open_session(
        quantized.SerializeToString(), purpose=Purpose.simulate if placement is Placement.tensorrt else Purpose.run
    )
    got = session.run([value.name for value in drawn.model.graph.output], drawn.feeds)
    answers = {value.name: answer for value, answer in zip(drawn.model.graph.output, got)}
    _judge_int8(outcome, drawn, quantized, answers, placement.name)


def _ranges(quantized: ModelProto, held: Mapping[str, Array], placement: Placement) -> list[str]:
    """Min-max: what a pair can hold reaches as far as what its tensor held."""
    found = []
    for pair in quantized_tensors(quantized):
        values = held[pair.tensor]
        values = values[np.isfinite(values)]
        if not values.size or not np.abs(values).max():
            continue
        slack = 0.12 * max(-pair.least, pair.greatest)
        if values.max() > pair.greatest + slack or values.min() < pair.least - slack:
            found.append(
                f"range: {placement.name} {pair.tensor!r} holds {values.min():.3g} to {values.max():.3g} and its pair"
                f" {pair.least:.3g} to {pair.greatest:.3g}"
            )
    return found


def _built(outcome: Outcome, drawn: Sample, path: Path, precision: Precision, recipe: QuantizationRecipe) -> None:
    """An engine is built, asks for the model's inputs, and answers as it should."""
    floats: tuple[str, ...] = ()
    if precision is Precision.int8_mixed:
        random = np.random.default_rng(drawn.seed)
        # The last Conv or Gemm runs in INT8: a mixture of nothing is refused, and rightly.
        last = [node.name for node in quantizable(drawn.model) if node.op_type != "ConvTranspose"][-1]
        names = [node.name for node in quantizable(drawn.model) if node.name and node.name != last]
        floats = float_nodes(drawn.model, [name for name in names if random.random() < 0.4])
    built = RUNTIME.build(
        path,
        BuildJob(
            precision,
            SETTINGS,
            recipe if precision in (Precision.int8, Precision.int8_mixed) else None,
            floats,
            axes=AXES,
        ),
    )
    outcome.builds += 1
    engine = OnnxRuntimeEngine(path, open_session(built.engine_bytes), AXES)
    answers = engine.infer(drawn.feeds)
    if set(answers) != {value.name for value in drawn.model.graph.output}:
        outcome.problems.append(f"names: the {precision.name} engine gives {sorted(answers)}")
        return
    if precision in (Precision.int8, Precision.int8_mixed):
        _judge_int8(outcome, drawn, onnx.load_model_from_string(built.engine_bytes), answers, f"build {precision.name}")
        if precision is Precision.int8:
            outcome.layers, outcome.integer_layers = built.quantizable, built.quantized
        return
    least = FP16_DB if precision is Precision.fp16 else FP32_DB
    outcome.decibels[precision.name] = worst = _worst(drawn, drawn.held, answers)
    if worst < least:
        outcome.problems.append(f"{precision.name}: {worst:.1f} dB")


def _judge_int8(
    outcome: Outcome, drawn: Sample, quantized: ModelProto, answers: Mapping[str, Array], what: str
) -> None:
    expected = simulated(quantized, drawn.feeds)
    for value in drawn.model.graph.output:
        exact, said, got = drawn.held[value.name], expected[value.name], answers[value.name]
        if not np.isfinite(got).all():
            outcome.problems.append(f"not finite: {what}: {value.name!r}")
        else:
            should, does = min(sqnr_db(exact, said), EXACT_DB), sqnr_db(exact, got)
            outcome.decibels[what] = min(outcome.decibels.get(what, np.inf), does)
            if does < should - INT8_DB:
                outcome.problems.append(f"int8: {what}: {does:.1f} dB where the simulation has {should:.1f} dB")


def _by_rtx(path: Path, recipe: QuantizationRecipe) -> None:
    from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX

    for precision in (Precision.fp16, Precision.int8):
        RTX.build(path, BuildJob(precision, SETTINGS, recipe if precision is Precision.int8 else None, axes=AXES))


def _worst(drawn: Sample, exact: Mapping[str, Array], got: Mapping[str, Array]) -> float:
    return min(sqnr_db(exact[value.name], got[value.name]) for value in drawn.model.graph.output)
