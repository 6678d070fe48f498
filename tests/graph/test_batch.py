"""A batch of 1 in the graph becomes dynamic: rows of a batch are answered as rows alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from enginewright.graph.batch import free_batch
from support.onnx_files import Array, answers, normal, parsed, rows_alone

SIZES = {"four": np.array([1, 2, 8, 12])}
GRAPHS: list[tuple[str, str, Mapping[str, Array]]] = [
    (
        "flattened by a Reshape to 1",
        "g (float[1, 2, 4, 4] x) => (float[1, 3] y) { f = Reshape(x, s) y = MatMul(f, w) }",
        {"s": np.array([1, -1]), "w": normal(32, 3)},
    ),
    (
        "flattened to fixed sizes",
        "g (float[1, 2, 4, 4] x) => (float[1, 3] y) { f = Reshape(x, s) y = MatMul(f, w) }",
        {"s": np.array([1, 32]), "w": normal(32, 3)},
    ),
    (
        "rows and places in one axis, and back",
        "g (float[1, 6, 4] x) => (float[1, 6, 3] y) { f = Reshape(x, s) m = MatMul(f, w) y = Reshape(m, t) }",
        {"s": np.array([6, 4]), "w": normal(4, 3), "t": np.array([1, 6, 3])},
    ),
    (
        "windows and heads behind a transposition",
        "g (float[1, 8, 6] x) => (float[1, 48] y) { a = Reshape(x, s) b = Transpose<perm=[1, 0, 2, 3]>(a) "
        "c = Reshape(b, t) d = MatMul(c, w) e = Reshape(d, s2) f = Transpose<perm=[1, 0, 2]>(e) y = Reshape(f, u) }",
        {
            "s": np.array([1, 4, 2, 6]),
            "t": np.array([4, 2, 6]),
            "w": normal(6, 6),
            "s2": np.array([4, 1, 12]),
            "u": np.array([1, 48]),
        },
    ),
    (
        "a class token before the others",
        "g (float[1, 5, 4] x) => (float[1, 6, 4] y) { y = Concat<axis=1>(token, x) }",
        {"token": normal(1, 1, 4)},
    ),
    (
        "sizes of a Resize",
        'g (float[1, 2, 4, 6] x) => (float[1, 2, 8, 12] y) { y = Resize<mode="linear">(x, , , four) }',
        SIZES,
    ),
    (
        "the first state of an LSTM",
        "g (float[1, 5, 4] x) => (float[1, 5, 3] y) { t = Transpose<perm=[1, 0, 2]>(x) "
        "o, h, c = LSTM<hidden_size=3>(t, w, r, , , h0, h0) q = Squeeze(o, axis) y = Transpose<perm=[1, 0, 2]>(q) }",
        {
            "w": normal(1, 12, 4),
            "r": normal(1, 12, 3),
            "h0": normal(1, 1, 3),
            "axis": np.array([1]),
        },
    ),
    (
        "a target put together of a 1 and what is computed",
        "g (float[1, 6, 4] x) => (float[1, 24] y) { shape = Shape(x) six = Gather(shape, one) four = Gather(shape, two)"
        " all = Mul(six, four) target = Concat<axis=0>(one, all) y = Reshape(x, target) }",
        {"one": np.array([1]), "two": np.array([2])},
    ),
]


@pytest.mark.parametrize(("graph", "weights"), [pytest.param(*rest, id=id_) for id_, *rest in GRAPHS])
def test_rows_of_a_batch_are_answered_as_rows_alone(graph: str, weights: Mapping[str, Array]) -> None:
    fixed = parsed(graph, weights)
    freed = onnx.ModelProto.FromString(fixed.SerializeToString())
    free_batch(freed, {"x": 0})
    onnx.checker.check_model(freed, full_check=True)
    shape = [axis.dim_value for axis in fixed.graph.input[0].type.tensor_type.shape.dim]
    for rows in (1, 2, 7):
        fed = normal(rows, *shape[1:], seed=rows)
        for expected, got in zip(rows_alone(fixed, "x", fed), answers(freed, x=fed)):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert freed.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_graph_that_already_follows_its_batch_keeps_its_nodes() -> None:
    model = parsed(
        "g (float[1, 2, 4] x) => (float[1, 8] y) { r = Relu(x) y = Reshape(r, s) }", {"s": np.array([0, -1])}
    )
    nodes = [node.SerializeToString() for node in model.graph.node]
    free_batch(model, {"x": 0})
    assert [node.SerializeToString() for node in model.graph.node] == nodes
