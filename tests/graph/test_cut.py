"""A graph cut to some of its outputs."""

from __future__ import annotations

import numpy as np
import onnx

from enginewright.graph.cut import cut_to, keep_used_domains, without_functions
from support.onnx_files import answers, normal, parsed

TWO = "g (float[n, 4] x) => (float[n, 3] a, float[n, 4] b) { m = MatMul(x, w) a = Relu(m) b = Mul(x, k) }"


def test_dead_nodes_and_their_weights_go() -> None:
    model = parsed(TWO, {"w": normal(4, 3), "k": normal(4)})
    cut_to(model, ["b"])
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["k"]
    onnx.checker.check_model(model, full_check=True)


def test_outputs_come_in_the_order_that_is_asked_for() -> None:
    model = parsed(TWO, {"w": normal(4, 3), "k": normal(4)})
    cut_to(model, ["b", "a"])
    assert [answer.shape for answer in answers(model, x=normal(2, 4))] == [(2, 4), (2, 3)]


def test_what_a_branch_reads_stays() -> None:
    model = parsed(
        "g (float[n, 4] x, bool c) => (float[n, 4] y) { r = Relu(x) dead = Exp(x) y = If(c) <then_branch = a () => "
        "(float[n, 4] p) { p = Mul(r, k) }, else_branch = b () => (float[n, 4] q) { q = Identity(r) }> }",
        {"k": normal(4)},
    )
    cut_to(model, ["y"])
    assert [node.op_type for node in model.graph.node] == ["Relu", "If"]
    (got,) = answers(model, x=normal(2, 4), c=np.array(True))
    np.testing.assert_array_equal(got, np.maximum(normal(2, 4), 0) * normal(4))


def test_functions_are_written_out_and_domains_without_a_node_go() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "own": 1, "com.microsoft": 1]>'
        " g (float[n, 4] x) => (float[n, 4] y) { y = own.twice(x) }"
        ' <opset_import: ["": 17], domain: "own"> twice (a) => (b) { b = Add(a, a) }'
    )
    written = without_functions(model)
    keep_used_domains(written)
    assert [entry.domain for entry in written.opset_import] == [""]
    np.testing.assert_array_equal(answers(written, x=normal(2, 4))[0], 2 * normal(2, 4))
