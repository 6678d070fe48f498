"""A recipe applied: biases first, then scales, and names that are those of the model before it was folded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Placement
from enginewright.errors import ModelError
from enginewright.graph.bias import correct_biases
from enginewright.graph.fold import fold_batch_normalization
from enginewright.graph.qdq import insert_qdq
from enginewright.graph.reasons import left_in_float
from support.networks import PLACEMENTS

NORM = "float[2] s = {1.5, 0.5}, float[2] b = {0, 1}, float[2] m = {0.1, 0}, float[2] v = {1, 2}"
CORRECTION = BiasCorrection({"first": np.array([0.25, -0.5], np.float32)})


def network(second: str) -> ModelProto:
    """conv - norm - conv - norm - norm; the second layer has the name `second`, or none."""
    named = f"[{second}] " if second else ""
    model = parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]>
        chain (float[N, 2, 4, 4] input) => (float[N, 2, 4, 4] output) <{NORM}, float[2, 2, 1, 1] w = {{1, 2, 3, 4}}>
        {{
            [first] conv0 = Conv (input, w)
            norm0 = BatchNormalization (conv0, s, b, m, v)
            {named} conv1 = Conv (norm0, w)
            norm1 = BatchNormalization (conv1, s, b, m, v)
            output = BatchNormalization (norm1, s, b, m, v)
        }}""")
    onnx.checker.check_model(model, full_check=True)
    return model


SCALES = CalibrationCache(Header.minmax, dict.fromkeys(["input", "norm0", "output"], 0.1))


@PLACEMENTS
def test_without_a_correction_it_is_the_scales_alone(placement: Placement) -> None:
    made = quantize(network("second"), QuantizationRecipe(SCALES), placement, ["second"])
    assert made.model == insert_qdq(network("second"), SCALES.scales, placement, ["second"])
    assert made.left_in_float == left_in_float(network("second"), SCALES.scales, placement, ["second"])


@PLACEMENTS
@pytest.mark.parametrize(
    ("name", "called"),
    [
        pytest.param("second", "second", id="by its name"),
        pytest.param("", "conv1", id="by an output that is folded away"),
    ],
)
def test_a_layer_that_stays_in_float_is_found_behind_a_correction_too(
    placement: Placement, name: str, called: str
) -> None:
    model = network(name)
    made = quantize(model, QuantizationRecipe(SCALES, CORRECTION), placement, [called])
    layers = [node for node in made.model.graph.node if node.op_type == "Conv"]
    assert [layer.input[1].endswith("_dequantized") for layer in layers] == [True, False]
    lowered = correct_biases(model, CORRECTION.layers)
    kept = next(node.name or node.output[0] for node in lowered.graph.node[::-1])
    assert made.model == insert_qdq(lowered, SCALES.scales, placement, [kept])


@PLACEMENTS
def test_an_unknown_node_is_refused_with_a_correction_as_without(placement: Placement) -> None:
    for recipe in (QuantizationRecipe(SCALES), QuantizationRecipe(SCALES, CORRECTION)):
        with pytest.raises(ModelError, match="has no node 'secnd' to leave in float; did you mean 'second'"):
            quantize(network("second"), recipe, placement, ["secnd"])


def test_a_batch_normalization_behind_another_is_folded_too_and_folding_again_changes_nothing() -> None:
    folded = fold_batch_normalization(network("second"))
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Conv"]
    assert fold_batch_normalization(folded) == folded
