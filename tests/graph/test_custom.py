"""Custom nodes: found, taken out and put back, and a graph that is simplified around them without any kernel."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright.graph.custom import custom_nodes, operators, put_together, state_types, taken_apart
from enginewright.runtimes.onnxruntime.simplify import simplified
from support import plugins as squash


def test_they_are_named_by_domain_and_operator() -> None:
    assert operators(custom_nodes(squash.model())) == ["own.ops::Squash"]


def test_a_function_of_the_model_is_none() -> None:
    model = squash.model()
    body = [helper.make_node("Softsign", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function(squash.DOMAIN, squash.OPERATOR, ["x"], ["y"], body, opsets))
    assert custom_nodes(model) == []


def test_taken_apart_and_put_together_it_is_the_same() -> None:
    model = squash.model()
    parts = taken_apart(model)
    assert parts is not None
    assert [value.name for value in parts.standard.graph.input] == ["input", "s"]
    assert [value.name for value in parts.standard.graph.output] == ["logits", "a"]
    assert [node.name for node in parts.standard.graph.node] == ["first", "second", "relu", "mean", "head"]
    assert put_together(parts, parts.standard, model) == model


def test_weights_of_a_custom_node_are_kept() -> None:
    model = squash.model()
    model.graph.initializer.append(numpy_helper.from_array(squash.images(1)["input"], "its"))
    model.graph.node[1].input.append("its")
    found = simplified(model)
    (node,) = custom_nodes(found)
    assert list(node.input) == ["a", "its"]
    assert "its" in {tensor.name for tensor in found.graph.initializer}


def test_what_stands_around_it_is_simplified_without_a_kernel() -> None:
    """A BatchNormalization is folded into the convolution before it, in front of the custom node."""
    model = squash.model()
    nodes = list(model.graph.node)
    nodes[0].output[0] = "before"
    names = ("scale", "bias", "mean_", "var")
    model.graph.initializer.extend(helper.make_tensor(name, TensorProto.FLOAT, [6], [1.5] * 6) for name in names)
    nodes.insert(1, helper.make_node("BatchNormalization", ["before", *names], ["a"], name="norm"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = simplified(model)
    assert [node.op_type for node in found.graph.node] == ["Conv", "Squash", "Conv", "Relu", "ReduceMean", "Gemm"]
    assert {entry.domain for entry in found.opset_import} == {"", "own.ops"}
    onnx.checker.check_model(found)


def test_one_inside_a_branch_is_left_where_it_is() -> None:
    model = squash.model()
    branch = helper.make_graph([model.graph.node[1]], "then", [], [helper.make_empty_tensor_value_info("s")])
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["yes"], ["s"], then_branch=branch, else_branch=branch)
    model.graph.node[1].CopyFrom(choice)
    assert operators(custom_nodes(model)) == ["own.ops::Squash"]
    assert taken_apart(model) is None


@pytest.mark.parametrize("stated", [False, True], ids=["unknown", "stated"])
def test_shapes_are_inferred_behind_it_where_its_output_is_stated(stated: bool) -> None:
    model = squash.model()
    if stated:
        state_types(model, {"s": helper.make_tensor_value_info("s", TensorProto.FLOAT, ["batch", 6, 8, 8])})
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {value.name: value.type.tensor_type.HasField("shape") for value in inferred.graph.value_info}
    assert shapes.get("c", False) is stated
