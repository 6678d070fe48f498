"""What INT8 leaves in float of itself is named, with the reason, in the engine and in its warnings."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, helper

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Placement, Precision
from enginewright.graph.qdq import insert_qdq
from enginewright.graph.reasons import left_in_float
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from support.networks import PLACEMENTS, residual_network

COMPUTED = "its weight is computed in the graph, not stored"


@pytest.fixture
def network() -> ModelProto:
    """The residual network, Conv_1's weight taken times a number that depends on the input."""
    model = residual_network()
    graph = model.graph
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["brightness"], name="brightness", keepdims=0),
        helper.make_node("Mul", ["w1", "brightness"], ["w1_now"], name="times"),
    ]
    next(node for node in graph.node if node.name == "Conv_1").input[1] = "w1_now"
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    onnx.checker.check_model(model, full_check=True)
    return model


@PLACEMENTS
def test_a_layer_with_a_computed_weight_stays_in_float(
    network: ModelProto, cache: CalibrationCache, placement: Placement
) -> None:
    assert left_in_float(network, cache.scales, placement) == {"Conv_1": COMPUTED}
    assert left_in_float(network, cache.scales, placement, ["Conv_1"]) == {}, "chosen, not found"
    quantized = insert_qdq(network, cache.scales, placement)
    onnx.checker.check_model(quantized, full_check=True)
    (layer,) = (node for node in quantized.graph.node if node.name == "Conv_1")
    assert layer.input[1:] == ["w1_now", "b1"]


def test_an_engine_says_it(network: ModelProto, network_file: Path, cache: CalibrationCache) -> None:
    built = RUNTIME.build(network_file, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert dict(built.left_in_float) == {"Conv_1": COMPUTED}
    assert f"Conv_1 (Conv) runs in float: {COMPUTED}" in built.warnings
    assert (built.quantized, built.quantizable) == (4, 5)
