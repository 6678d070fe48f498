"""The float model behind a quantized one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from enginewright.graph.unquantized import Pairs, integer_operators, unquantize
from support.onnx_files import Array, answers, normal, parsed

GRAPH = """g (float[n, 4] x) => (float[n, 3] y) {
    xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z)
    wd = DequantizeLinear<axis=1>(wq, ws, wz)
    m = MatMul(xd, wd)
    mq = QuantizeLinear(m, s, z) md = DequantizeLinear(mq, s, z)
    y = Add(md, b)
}"""
STORED: dict[str, Array] = {
    "s": np.array(0.05, np.float32),
    "z": np.array(0, np.int8),
    "wq": np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
    "ws": np.array([0.1, 0.2, 0.3], np.float32),
    "wz": np.zeros(3, np.int8),
    "b": normal(3),
}


def test_pairs_go_and_weights_become_what_they_stand_for() -> None:
    model = parsed(GRAPH, STORED)
    assert unquantize(model) == Pairs(activations=2, weights=1)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
    fed = normal(5, 4)
    (got,) = answers(model, x=fed)
    np.testing.assert_allclose(got, fed @ (STORED["wq"] * STORED["ws"]) + STORED["b"], rtol=1e-5, atol=1e-6)


def test_a_weight_that_is_quantized_in_the_graph_is_as_it_was_before() -> None:
    model = parsed(
        "g (float[n, 4] x) => (float[n, 3] y) { q = QuantizeLinear(w, s, z) d = DequantizeLinear(q, s, z)"
        " y = MatMul(x, d) }",
        {"w": normal(4, 3), "s": STORED["s"], "z": STORED["z"]},
    )
    assert unquantize(model) == Pairs(activations=0, weights=1)
    np.testing.assert_allclose(answers(model, x=normal(2, 4))[0], normal(2, 4) @ normal(4, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("zero", "operators"),
    [
        pytest.param(np.array(0, np.uint8), ["Conv", "Relu", "Conv"], id="uint8 from 0: the Relu was dropped"),
        pytest.param(np.array(-128, np.int8), ["Conv", "Relu", "Conv"], id="int8 from -128"),
        pytest.param(np.array(0, np.int8), ["Conv", "Conv"], id="int8 around 0"),
        pytest.param(np.array(100, np.uint8), ["Conv", "Conv"], id="uint8 around 100"),
    ],
)
def test_a_relu_that_a_pair_stands_for_comes_back(zero: Array, operators: list[str]) -> None:
    model = parsed(
        "g (float[n, 2, 4, 4] x) => (float[n, 2, 4, 4] y) { a = Conv(x, w) q = QuantizeLinear(a, s, z)"
        " d = DequantizeLinear(q, s, z) y = Conv(d, w) }",
        {"w": normal(2, 2, 1, 1), "s": np.array(0.05, np.float32), "z": zero},
    )
    unquantize(model)
    assert [node.op_type for node in model.graph.node] == operators


def test_an_output_of_the_model_keeps_its_name() -> None:
    model = parsed(
        "g (float[n, 4] x) => (float[n, 4] y) { a = Tanh(x) q = QuantizeLinear(a, s, z)"
        " y = DequantizeLinear(q, s, z) }",
        {"s": STORED["s"], "z": STORED["z"]},
    )
    unquantize(model)
    np.testing.assert_allclose(answers(model, x=normal(2, 4))[0], np.tanh(normal(2, 4)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(
            "g (int8[n, 4] x) => (float[n, 4] y) { y = DequantizeLinear(x, s, z) }", id="an input of integers"
        ),
        pytest.param("g (float[n, 4] x) => (int8[n, 4] y) { y = QuantizeLinear(x, s, z) }", id="an output of integers"),
    ],
)
def test_half_a_pair_cannot_be_undone(graph: str) -> None:
    with pytest.raises(ValueError, match=r"^y$"):
        unquantize(parsed(graph, {"s": STORED["s"], "z": STORED["z"]}))


def test_operators_that_compute_with_integers_are_named() -> None:
    model = parsed(
        "g (float[n, 4] x) => (int32[n, 3] y) { q, s, z = DynamicQuantizeLinear(x) y = MatMulInteger(q, w, z) }",
        {"w": STORED["wq"]},
    )
    assert integer_operators(model) == ("DynamicQuantizeLinear", "MatMulInteger")
