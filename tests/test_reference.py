"""The float64 reference that INT8 is held against, held against ONNX Runtime itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from enginewright.config import Calibration, CalibrationAlgorithm, Placement
from enginewright.graph.qdq import insert_qdq
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.session import open_session
from support.networks import images, residual_network
from support.reference import quantized_tensors, simulated, sqnr_db, without_pairs


def quantized(folder: Path, placement: Placement) -> ModelProto:
    path = folder / "model.onnx"
    onnx.save(residual_network(), path)
    cache = calibrate(path, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))
    return insert_qdq(residual_network(), cache.scales, placement)


@pytest.mark.parametrize("placement", [pytest.param(each, id=each.name) for each in Placement])
def test_the_simulation_is_what_a_session_computes(placement: Placement, tmp_path: Path) -> None:
    model = quantized(tmp_path, placement)
    (got,) = open_session(model.SerializeToString()).run(None, {"input": images()})
    expected = simulated(model, {"input": images()})
    assert expected["logits"].dtype == np.float64
    assert sqnr_db(expected["logits"], got) > 60


@pytest.mark.parametrize("placement", [pytest.param(each, id=each.name) for each in Placement])
def test_without_its_pairs_a_graph_is_the_float_model_again(placement: Placement, tmp_path: Path) -> None:
    model = quantized(tmp_path, placement)
    exact = simulated(residual_network(), {"input": images()})["logits"]
    stripped = simulated(without_pairs(model), {"input": images()})["logits"]
    assert sqnr_db(exact, stripped) > (100 if placement is Placement.tensorrt else 35)


@pytest.mark.parametrize("placement", [pytest.param(each, id=each.name) for each in Placement])
def test_pairs_say_which_range_they_stand_for(placement: Placement, tmp_path: Path) -> None:
    model = quantized(tmp_path, placement)
    held = simulated(without_pairs(model), {"input": images()})
    pairs = quantized_tensors(model)
    assert pairs
    for pair in pairs:
        # Within the rounding of weights, which moves ranges.
        amax = float(np.abs(held[pair.tensor]).max())
        assert max(-pair.least, pair.greatest) == pytest.approx(amax, rel=0.05), pair


def test_a_collision_of_names_shows_without_the_pairs(tmp_path: Path) -> None:
    """What the simulation of a wrong graph cannot show, as both would be wrong alike."""
    model = quantized(tmp_path, Placement.tensorrt)
    wrong = next(tensor for tensor in model.graph.initializer if tensor.name == "b1")
    wrong.CopyFrom(numpy_helper.from_array(np.float32(0.01) * np.ones(8, np.float32), wrong.name))
    exact = simulated(residual_network(), {"input": images()})["logits"]
    assert sqnr_db(exact, simulated(without_pairs(model), {"input": images()})["logits"]) < 60
