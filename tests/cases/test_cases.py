"""Every row of expected.csv, which was written before the work on it."""

from __future__ import annotations

import csv
import functools
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from cases.models import Subject, subject

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.check_onnx import inspect
from enginewright.config import Build, Calibration, Placement, Precision
from enginewright.errors import CalibrationMismatch
from enginewright.graph.qdq import insert_qdq, rounding_error
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.session import Purpose, open_session
from support.reference import simulated, sqnr_db, without_pairs

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, np.dtype[Any]]
Row = Mapping[str, str]
SETTINGS = Build()
AXES = batches(1, 8, 32)
FAITHFUL_DB = {"tensorrt": 80.0, "onnxruntime": 28.0, "build": 28.0}  # without rounded activations
ELSEWHERE = {"28": "tests/pipeline"}  # what only the whole pipeline shows

with (Path(__file__).parent / "expected.csv").open(newline="") as table:
    ROWS = list(csv.DictReader(table))


@dataclass(frozen=True)
class Prepared:
    """A case's model as a file, what float64 says, and its scales."""

    subject: Subject
    path: Path
    held: Mapping[str, Array]

    @functools.cached_property
    def recipe(self) -> QuantizationRecipe:
        """Calibrated as the stage does it."""
        cache = RUNTIME.calibrate(self.path, self.subject.feeds(), Calibration(algorithm=self.subject.algorithm))
        corrects = self.subject.corrects
        return QuantizationRecipe(cache, measure_bias_correction(self.path, self.subject.feeds()) if corrects else None)

    @property
    def feeds(self) -> dict[str, Array]:
        """All batches as one."""
        batches = self.subject.feeds()
        return {"input": np.concatenate([batch["input"] for batch in batches])}

    @property
    def outputs(self) -> list[str]:
        """What the model returns."""
        return [value.name for value in self.subject.model.graph.output]

    def worst(self, answers: Mapping[str, Array]) -> float:
        """The least decibels of all outputs."""
        return min(sqnr_db(self.held[name], answers[name]) for name in self.outputs)


@functools.lru_cache(maxsize=4)
def prepared(case: str, part: str) -> Prepared:
    made = subject(case, part)
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    onnx.save(made.model, str(path))
    found = Prepared(made, path, {})
    return replace(found, held=simulated(made.model, found.feeds))


def run(plan: bytes, made: Prepared, simulates: bool = False) -> dict[str, Array]:
    """The engine's answers to the real inputs alone."""
    return OnnxRuntimeEngine(
        made.path,
        open_session(plan, purpose=Purpose.simulate if simulates else Purpose.run),
        AXES,
    ).infer(made.feeds)


def int8_right(row: Row, made: Prepared) -> None:
    """The graph means the float model, and what runs is as near as its simulation."""
    what = row["what"]
    if what == "build":
        plan = RUNTIME.build(made.path, BuildJob(Precision.int8, SETTINGS, made.recipe, axes=AXES)).engine_bytes
    else:
        plan = quantize(made.subject.model, made.recipe, Placement[what]).model.SerializeToString()
    graph = onnx.load_model_from_string(plan)
    stripped = made.worst(simulated(without_pairs(graph), made.feeds))
    assert stripped >= (25 if made.subject.corrects else FAITHFUL_DB[what])
    expected = made.worst(simulated(graph, made.feeds))
    answers = run(plan, made, simulates=what == "tensorrt")
    assert all(np.isfinite(answers[name]).all() for name in made.outputs)
    assert made.worst(answers) >= min(expected, 60.0) - float(row["bound"])
    assert expected > 20  # of these well-scaled models; the reports' wrong answers were at 0 to 28 dB
    if made.subject.corrects:
        plain = insert_qdq(made.subject.model, made.recipe.scales.scales, Placement.onnxruntime)
        assert expected >= made.worst(simulated(plain, made.feeds)) - float(row["bound"])


def near(row: Row, made: Prepared) -> None:
    """An FP32 or FP16 engine is as near to float64 as it must be."""
    answers = run(
        RUNTIME.build(made.path, BuildJob(Precision[row["what"]], SETTINGS, None, axes=AXES)).engine_bytes, made
    )
    assert made.worst(answers) >= float(row["bound"])


def passes(_: Row, made: Prepared) -> None:
    report = inspect(made.path)
    assert report.verdict == "pass", report.failure()


def valid(row: Row, made: Prepared) -> None:
    onnx.checker.check_model(quantize(made.subject.model, made.recipe, Placement[row["what"]]).model, full_check=True)


def read_back(_: Row, made: Prepared) -> None:
    file = made.path.with_name("calib.cache")
    made.recipe.scales.write(file)
    assert CalibrationCache.read(file) == made.recipe.scales


def within_memory(row: Row, made: Prepared) -> None:
    batches = made.subject.feeds()
    tracemalloc.start()
    try:
        cache = RUNTIME.calibrate(made.path, batches, Calibration(algorithm=made.subject.algorithm))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < float(row["bound"]) * 2**20
    assert 127 * cache.scales["m"] == pytest.approx(50, rel=0.05)


def shift_is_the_mean(row: Row, made: Prepared) -> None:
    """Over all rows of the layer, not over the images that they come from."""
    model = made.subject.model
    layer = next(node for node in model.graph.node if node.op_type == "Gemm")  # the first one: over tokens
    weight = onnx.numpy_helper.to_array(
        next(tensor for tensor in model.graph.initializer if tensor.name == layer.input[1])
    )
    true = (made.held[layer.input[0]] @ rounding_error(layer, weight).astype(np.float64).T).mean(axis=0)
    assert made.recipe.bias_correction is not None
    assert np.median(made.recipe.bias_correction.layers[layer.name] / true) == pytest.approx(1, abs=float(row["bound"]))


def int8_right_or_named(row: Row, made: Prepared) -> None:
    """Right, or an error that says what it is; "belongs to another model" is not."""
    try:
        int8_right(row, made)
    except CalibrationMismatch as fault:
        assert "another model" not in str(fault)  # noqa: PT017 (it need not be raised)


CHECKS: dict[tuple[str, str], Callable[[Row, Prepared], None]] = {
    ("right", "int8_below_simulation_db"): int8_right,
    ("right_or_named", "int8_below_simulation_db"): int8_right_or_named,
    ("right", "fp32_db"): near,
    ("right", "fp16_db"): near,
    ("right", "peak_mebibytes"): within_memory,
    ("right", "shift_over_true_mean"): shift_is_the_mean,
    ("pass", ""): passes,
    ("valid", ""): valid,
    ("read_back", ""): read_back,
}


def parameter(row: Row) -> Any:
    name = "-".join(row[column] for column in ("case", "part", "what"))
    return pytest.param(row, id=name)


@pytest.mark.parametrize("row", [parameter(row) for row in ROWS if row["case"] not in ELSEWHERE])
def test_the_outcome_is_the_one_that_was_expected(row: Row) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CHECKS[row["outcome"], row["measure"]](row, prepared(row["case"], row["part"]))


def test_every_case_has_a_row_but_the_one_of_several_cards() -> None:
    assert {row["case"] for row in ROWS} == {
        f"{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 20, 23, 26, 27, 28)
    }
