"""INT8 of nine small networks in both placements: as near to float64 as the simulation, every layer in INT8 or listed
with its reason.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.check_onnx import inspect
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.graph.reasons import is_quantizable, left_in_float
from enginewright.interface import BATCH, AxisRange, up_to
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.session import Purpose, open_session
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX
from support.reference import simulated, sqnr_db, without_pairs
from support.small_models import SMALL_MODELS, batches, exported, with_shape_arithmetic

pytestmark = pytest.mark.slow

WITHIN_DB = 3.0
CORRECTED = ("mixer",)  # with bias correction
SETTINGS = Build()
AXES = {BATCH: AxisRange(1, 4, 8)}
ABSENT = RTX.why_not(Capability.build)


def written(name: str, folder: Path, hand_made: bool = False) -> Path:
    path = folder / "model.onnx"
    onnx.save(with_shape_arithmetic(name) if hand_made else exported(name), path)
    return path


def calibrated(name: str, path: Path) -> QuantizationRecipe:
    cache = RUNTIME.calibrate(path, batches(name), Calibration(algorithm=CalibrationAlgorithm.minmax))
    return QuantizationRecipe(cache, measure_bias_correction(path, batches(name)) if name in CORRECTED else None)


def fed(name: str) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"input": np.concatenate([batch["input"] for batch in batches(name)])}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_the_check_passes_a_small_model(name: str, tmp_path: Path) -> None:
    for hand_made in (False, True):
        report = inspect(written(name, tmp_path, hand_made))
        assert report.verdict == "pass", report.failure()


@pytest.mark.parametrize("hand_made", [pytest.param(False, id="exported"), pytest.param(True, id="as traced")])
@pytest.mark.parametrize("placement", [pytest.param(each, id=each.name) for each in Placement])
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_a_placement_is_as_near_as_its_simulation(
    name: str, placement: Placement, hand_made: bool, tmp_path: Path
) -> None:
    path, output = written(name, tmp_path, hand_made), SMALL_MODELS[name].output_name
    model = onnx.load(path)
    quantized = quantize(model, calibrated(name, path), placement).model
    onnx.checker.check_model(quantized, full_check=True)
    exact = simulated(model, fed(name))[output]
    simulation = sqnr_db(exact, simulated(quantized, fed(name))[output])
    (answer,) = open_session(
        quantized.SerializeToString(), purpose=Purpose.simulate if placement is Placement.tensorrt else Purpose.run
    ).run([output], fed(name))
    assert np.isfinite(answer).all()
    assert sqnr_db(exact, answer) >= simulation - WITHIN_DB
    assert simulation > 15
    # Without its pairs the graph is the float model again, or that with rounded weights and moved biases.
    faithful = 80 if placement is Placement.tensorrt and name not in CORRECTED else 28
    assert sqnr_db(exact, simulated(without_pairs(quantized), fed(name))[output]) >= faithful


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_every_layer_runs_in_int8_or_says_why_not(name: str, tmp_path: Path) -> None:
    path, output = written(name, tmp_path), SMALL_MODELS[name].output_name
    recipe = calibrated(name, path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, SETTINGS, recipe, axes=AXES))
    exact = simulated(exported(name), fed(name))[output]
    expected = sqnr_db(exact, simulated(onnx.load_model_from_string(built.engine_bytes), fed(name))[output])
    answer = OnnxRuntimeEngine(path, open_session(built.engine_bytes), up_to(8)).infer(fed(name))[output]
    assert sqnr_db(exact, answer) >= expected - WITHIN_DB
    layers = {node.name for node in exported(name).graph.node if is_quantizable(node)}
    reasons = {node: why for node, why in built.left_in_float.items() if node in layers}
    assert built.quantizable == len(layers) == SMALL_MODELS[name].products
    assert built.quantized + len(reasons) == built.quantizable, (built.quantized, reasons)
    assert all(reasons.values())


@pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_tensorrt_builds_its_placement_of_a_small_model(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    recipe = calibrated(name, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        built = RTX.build(path, BuildJob(Precision.int8, SETTINGS, recipe, axes=AXES))
    layers = [node for node in exported(name).graph.node if is_quantizable(node)]
    reasons = left_in_float(exported(name), recipe.scales.scales, Placement.tensorrt)
    assert built.quantizable == len(layers)
    assert len(built.engine_bytes) > 1000
    assert all(reasons.get(node, "no reason") for node in built.left_in_float)
