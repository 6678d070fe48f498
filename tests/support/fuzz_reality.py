"""What becomes of a file that something may be wrong with, fed as the pipeline feeds it: the judge of what check_onnx says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginewright.check_onnx import inspect
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision, Profile
from enginewright.errors import EnginewrightError
from enginewright.runtimes.base import Task, as_input
from enginewright.runtimes.onnxruntime import RUNTIME, OnnxRuntimeEngine, open_session
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX

SETTINGS = Build(profile=Profile(1, 2, 4))
BATCHES = (3, 1)
MOST_VALUES = 100_000
FINE = "fine"


def disagreements(path: Path) -> list[str]:
    """Where the verdict on a file and what becomes of it differ; and every traceback."""
    report = inspect(path)
    reality = what_happens(path, asks_rtx=report.verdict == "pass")
    found = [f"traceback: {step}: {outcome}" for step, outcome in reality.items() if outcome.startswith("traceback") and report.verdict == "pass"]
    if report.verdict == "pass" and reality["run fp32"] != FINE:
        found.append(f"passes, and FP32: {reality['run fp32']}")
    if report.verdict == "pass" and any("nonsense" in outcome for outcome in reality.values()):
        found.append(f"passes, and computes nonsense: {reality}")
    if report.verdict == "fail" and all(outcome == FINE for outcome in reality.values()) and not _refused_by_tensorrt(report.failure()):
        found.append(f"fails, and all is fine: {report.failure()}")
    return found


def what_happens(path: Path, asks_rtx: bool = True) -> dict[str, str]:
    """Step -> fine, refused with a sentence, nonsense, or a traceback."""
    cache: list[Any] = []
    steps: dict[str, Callable[[], str]] = {
        "run fp32": lambda: _run(path, Precision.fp32, None),
        "run fp16": lambda: _run(path, Precision.fp16, None),
        "calibrate": lambda: _calibrate(path, cache),
        "run int8": lambda: _run(path, Precision.int8, cache[0]) if cache else FINE,
    }
    if asks_rtx and RTX.why_not(Task.build) is None:
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
    RTX.build(path, Precision.fp32, SETTINGS, None)
    return FINE


def _images(path: Path, batch: int) -> tuple[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Images for the first real input, in the shape that it states."""
    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    fed = next(value for value in graph.input if value.name not in stored)
    axes = [axis.dim_value or 8 for axis in fed.type.tensor_type.shape.dim[1:]]
    if np.prod(axes) > MOST_VALUES:
        raise EnginewrightError("the input is too large to try")
    return fed.name, np.random.default_rng(0).standard_normal((batch, *axes)).astype(np.float32)


def _run(path: Path, precision: Precision, cache: Any) -> str:
    built = RUNTIME.build(path, precision, SETTINGS, cache)
    engine = OnnxRuntimeEngine(path, open_session(built.plan), SETTINGS.profile.max)
    for batch in BATCHES:
        name, values = _images(path, batch)
        answers = engine.infer({spec.name: as_input(values, spec) for spec in engine.inputs if spec.name == name})
        for output, answer in answers.items():
            if not answer.shape or answer.shape[0] != batch:
                return f"nonsense: {output!r} has the shape {answer.shape} for {batch} images"
            if answer.dtype.kind == "f" and np.isnan(answer).any():
                return f"nonsense: {output!r} holds NaN"
    return FINE


def _calibrate(path: Path, cache: list[Any]) -> str:
    name, values = _images(path, max(BATCHES))
    cache.append(RUNTIME.calibrate(path, [{name: values}], Calibration(algorithm=CalibrationAlgorithm.minmax)))
    return FINE


def _refused_by_tensorrt(sentences: str) -> bool:
    """What its documents or its parser say, which ONNX Runtime does not show."""
    return any(word in sentences for word in ("TensorRT", "parser of"))
