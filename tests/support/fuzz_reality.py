"""What becomes of a file that something may be wrong with, fed as the pipeline feeds it: the judge of what check_onnx
says.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.check_onnx import inspect
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision
from enginewright.errors import EnginewrightError
from enginewright.feeds import as_input
from enginewright.importers.examples import feeds_at
from enginewright.interface import BATCH, Interface, batches
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.session import open_session
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX
from support.fuzz_draft import Array
from support.reference import sqnr_db

SETTINGS = Build()
AXES = batches(1, 2, 4)
BATCHES = (3, 1)
MOST_VALUES = 100_000
FINE = "fine"
LEAST_DB = 10.0


def disagreements(path: Path) -> list[str]:
    """Where the verdict on a file and what becomes of it differ; and every traceback."""
    report = inspect(path)
    # TensorRT-RTX 1.7's parser was seen to end the process on what onnx.checker refuses.
    reality = what_happens(path, asks_rtx=report.valid)
    found = [
        f"traceback: {step}: {outcome}"
        for step, outcome in reality.items()
        if outcome.startswith("traceback") and report.verdict == "pass"
    ]
    if any("its seed is ignored" in finding.what for finding in report.findings):
        return found  # random answers are a warning, and repeat nowhere
    if report.verdict == "pass" and reality["run fp32"] != FINE and not _of_any_size(path):
        found.append(f"passes, and FP32: {reality['run fp32']}")
    if report.verdict == "pass" and any("nonsense" in outcome for outcome in reality.values()):
        found.append(f"passes, and computes nonsense: {reality}")
    if (
        report.verdict == "fail"
        and all(outcome == FINE for outcome in reality.values())
        and not _refused_elsewhere(report.failure())
    ):
        found.append(f"fails, and all is fine: {report.failure()}")
    return found


def what_happens(path: Path, asks_rtx: bool = True) -> dict[str, str]:
    """Step -> fine, refused with a sentence, nonsense, or a traceback."""
    cache: list[Any] = []
    exact: dict[str, Array] = {}
    steps: dict[str, Callable[[], str]] = {
        "run fp32": lambda: _run(path, Precision.fp32, None, exact),
        "run fp16": lambda: _run(path, Precision.fp16, None, exact),
        "calibrate": lambda: _calibrate(path, cache),
        "run int8": lambda: _run(path, Precision.int8, cache[0], {}) if cache else FINE,
    }
    if asks_rtx and RTX.why_not(Capability.build) is None:
        steps["TensorRT-RTX"] = lambda: _by_rtx(path)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {step: _outcome(tried) for step, tried in steps.items()}


def _outcome(tried: Callable[[], str]) -> str:
    try:
        return tried()
    except EnginewrightError as fault:
        return f"refused: {fault}"
    except Exception as fault:  # noqa: BLE001 (what a fuzz is for)
        return f"traceback {type(fault).__name__}: {' '.join(str(fault).split())[:200]}"


def _by_rtx(path: Path) -> str:
    RTX.build(path, BuildJob(Precision.fp32, SETTINGS, None, axes=AXES))
    return FINE


def _feeds(path: Path, batch: int) -> dict[str, Array]:
    """What the inputs are fed, in the shapes and dtypes that they state; an axis with a name has 8."""
    interface = Interface.from_file(path).with_batch()
    sizes = dict.fromkeys(interface.axes(), 8)
    if any(np.prod(spec.sizes(sizes)[1:]) > MOST_VALUES for spec in interface.inputs):
        raise EnginewrightError("the input is too large to try")
    return feeds_at(interface, {**sizes, BATCH: batch}, seed=0)


def _of_any_size(path: Path) -> bool:
    """Whether an axis other than the batch has a name: `export` runs the model at the ends of its range."""
    return set(Interface.from_file(path).with_batch().axes()) > {BATCH}


def _run(path: Path, precision: Precision, cache: Any, exact: dict[str, Array]) -> str:
    """`exact` holds FP32's answers to the last batch, once there are some."""
    built = RUNTIME.build(
        path, BuildJob(precision, SETTINGS, QuantizationRecipe(cache) if cache is not None else None, axes=AXES)
    )
    engine = OnnxRuntimeEngine(path, open_session(built.engine_bytes), AXES)
    for batch in BATCHES:
        feeds = _feeds(path, batch)
        answers = engine.infer({spec.name: as_input(feeds[spec.name], spec) for spec in engine.interface.inputs})
        if batch == max(BATCHES) and not _independent(engine, feeds, answers):
            return "nonsense: what an image gives depends on the images beside it"
        for output, answer in answers.items():
            if not answer.shape or answer.shape[0] != batch:
                return f"nonsense: {output!r} has the shape {answer.shape} for {batch} images"
            if answer.dtype.kind == "f" and np.isnan(answer).any():
                return f"nonsense: {output!r} holds NaN"
            if (
                precision is Precision.fp16
                and output in exact
                and batch == BATCHES[-1]
                and sqnr_db(exact[output], answer) < LEAST_DB
            ):
                return f"nonsense: {output!r} has nothing to do with FP32's"
    if precision is Precision.fp32:
        exact.update(answers)
    return FINE


def _independent(engine: OnnxRuntimeEngine, feeds: dict[str, Any], answers: Mapping[str, Array]) -> bool:
    """Whether the first image alone gives what it gave beside others; random numbers and quantization steps apart."""
    alone = engine.infer({spec.name: as_input(feeds[spec.name][:1], spec) for spec in engine.interface.inputs})
    floats = [
        name for name, answer in answers.items() if answer.dtype.kind == "f" and answer.shape[:1] == (max(BATCHES),)
    ]
    return all(sqnr_db(answers[name][:1], alone[name]) > LEAST_DB for name in floats)


def _calibrate(path: Path, cache: list[Any]) -> str:
    feeds = _feeds(path, max(BATCHES))
    cache.append(RUNTIME.calibrate(path, [feeds], Calibration(algorithm=CalibrationAlgorithm.minmax)))
    return FINE


def _refused_elsewhere(sentences: str) -> bool:
    """What no run on ONNX Runtime shows: TensorRT's own limits, what is not valid ONNX, of which Q/DQ nodes need the
    order and the name, operators that only some parsers have, and weights so damaged that the float model, which all is
    held against, is nonsense itself.
    """
    return any(
        word in sentences
        for word in ("TensorRT", "parser of", "onnx.checker refuses", "outside of standard ONNX", "float32 overflows")
    )
