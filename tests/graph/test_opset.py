"""Another opset, with the same answers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from enginewright.errors import ModelError
from enginewright.graph.opset import at_opset, opset_of
from support.onnx_files import answers, normal, parsed

GRAPHS = {
    9: 'g (float[n, 2, 4, 4] x) => (float[n, 2, 8, 8] y) { u = Upsample<mode="nearest">(x, s) y = Softmax<axis=1>(u) }',
    11: "g (float[n, 2, 4, 4] x) => (float[n, 2, 4] y) { u = Squeeze<axes=[3]>(p) y = Softmax<axis=1>(u)"
    " p = ReduceMean<axes=[3], keepdims=1>(x) }",
    13: "g (float[n, 2, 4, 4] x) => (float[n, 4, 4] y) { y = ReduceMean<axes=[1], keepdims=0>(x) }",
    21: "g (float[n, 2, 4, 4] x) => (float[n, 2, 4, 4] y) { y = Relu(x) }",
}


@pytest.mark.parametrize("own", [9, 13, 21])
@pytest.mark.parametrize("wanted", [13, 17, 20, 21])
def test_a_model_answers_the_same_at_another_opset(own: int, wanted: int) -> None:
    weights = {"s": np.array([1, 1, 2, 2], np.float32)} if own == 9 else {}
    model = parsed(GRAPHS[own], weights, opset=own, ir_version=4)
    fed = normal(3, 2, 4, 4)
    before = answers(model, x=fed)
    converted = at_opset(onnx.ModelProto.FromString(model.SerializeToString()), wanted, "model.onnx")
    assert opset_of(converted) == wanted
    onnx.checker.check_model(converted, full_check=True)
    for expected, got in zip(before, answers(converted, x=fed)):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_large_weights_and_metadata_stay() -> None:
    model = parsed("g (float[n, 64] x) => (float[n, 64] y) { y = MatMul(x, w) }", {"w": normal(64, 64)}, opset=12)
    helper.set_model_props(model, {"license": "MIT"})
    before = answers(model, x=normal(2, 64))
    converted = at_opset(model, 17, "model.onnx")
    assert {entry.key: entry.value for entry in converted.metadata_props} == {"license": "MIT"}
    np.testing.assert_array_equal(answers(converted, x=normal(2, 64))[0], before[0])


def test_weights_among_the_inputs_of_ir_version_3_are_no_inputs_any_more() -> None:
    model = parsed(
        "g (float[n, 4] x, float[4, 3] w) => (float[n, 3] y) { y = MatMul(x, w) }",
        {"w": normal(4, 3)},
        opset=9,
        ir_version=3,
    )
    converted = at_opset(model, 17, "model.onnx")
    assert [value.name for value in converted.graph.input] == ["x"]
    assert converted.ir_version == 8
    np.testing.assert_allclose(answers(converted, x=normal(2, 4))[0], normal(2, 4) @ normal(4, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("graph", "own", "wanted", "sentence"),
    [
        pytest.param(
            "g (float[2, 4] x) => (int64[1] y) { y = Shape<start=0, end=1>(x) }",  # attributes that 13 has not
            15,
            13,
            r"cannot bring model.onnx from opset 15 to 13, because of the operator Shape \(.*\); set"
            " export.opset_version to 15, which the file has, or export the model again at opset 13",
            id="down",
        ),
        pytest.param(
            "g (float[2, 4] x) => (float[2, 4] y) { y = Scan9(x) }",
            9,
            17,
            r"from opset 9 to 17, because of the operator Scan9 \(.*\); export the model again at opset 17",
            id="up, from an opset that the pipeline does not take",
        ),
    ],
)
def test_what_the_converter_refuses_is_named(graph: str, own: int, wanted: int, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        at_opset(parsed(graph, opset=own), wanted, "model.onnx")
