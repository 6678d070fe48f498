"""No name that we make is one of the model's: tensors and nodes, inner graphs and functions included."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.config import Placement
from enginewright.graph.names import Names, inner_graphs, name_nodes, printable
from enginewright.graph.qdq import insert_qdq
from support.networks import PLACEMENTS, residual_network, run, sqnr
from support.onnx_files import parsed


def _every_name(graph: GraphProto) -> list[str]:
    """The names in a graph and in those inside it, each as often as something is made under it."""
    found = [tensor.name for tensor in graph.initializer] + [value.name for value in graph.input]
    for node in graph.node:
        found += [node.name, *node.output]
        for inner in inner_graphs(node):
            found += _every_name(inner)
    return [name for name in found if name]


def _then(name: str) -> NodeProto:
    """An If whose branches make a tensor of this name."""
    branches = [
        helper.make_graph(
            [
                helper.make_node(
                    "Constant",
                    [],
                    [f"{name}{end}"],
                    name=f"{name}{end}_node",
                    value=numpy_helper.from_array(np.array([end], np.float32)),
                )
            ],
            "branch",
            [],
            [helper.make_tensor_value_info(f"{name}{end}", TensorProto.FLOAT, [1])],
        )
        for end in (1, 2)
    ]
    return helper.make_node("If", ["yes"], ["chosen"], name="If_0", then_branch=branches[0], else_branch=branches[1])


def _crowded() -> ModelProto:
    """The residual network, its logits scaled by a tensor of every name that Q/DQ nodes get."""
    model = residual_network()
    graph = model.graph
    graph.node[-1].output[0] = "sums"
    wanted = [
        f"{tensor}_{what}"
        for tensor in ("input", "relu0", "flat", "mean", "sums", "conv3")
        for what in ("scale", "zero_point", "quantized", "dequantized")
    ]
    wanted += [
        f"w{layer}_int8{what}"
        for layer in range(5)
        for what in ("", "_scale", "_zero_point", "_quantized", "_dequantized")
    ]
    wanted += [f"b{layer}_int32{what}" for layer in range(5) for what in ("", "_scale", "_dequantized")] + [
        "logits_float"
    ]
    source = "sums"
    for number, name in enumerate(wanted):
        graph.initializer.append(numpy_helper.from_array(np.array(1.0 + (number % 5) / 10, np.float32), name))
        graph.node.append(
            helper.make_node(
                "Mul",
                [source, name],
                [f"product{number}"],
                name=f"{name}_QuantizeLinear" if number % 2 else f"{name}_DequantizeLinear",
            )
        )
        source = f"product{number}"
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.node.append(_then("relu2_scale"))
    graph.node.append(helper.make_node("Mul", [source, "chosen"], ["logits"], name="last"))
    onnx.checker.check_model(model, full_check=True)
    return model


@PLACEMENTS
def test_names_of_the_model_are_never_taken(cache: CalibrationCache, placement: Placement) -> None:
    """A tensor `input_scale` of the model was taken for the quantizer's: top-1 fell from 0.967 to 0.319."""
    crowded = _crowded()
    more = CalibrationCache(
        cache.header,
        {**cache.scales, "sums": cache.scales["logits"], **{f"product{number}": 1.0 for number in range(100)}},
    )
    quantized = insert_qdq(crowded, more.scales, placement)
    onnx.checker.check_model(quantized, full_check=True)
    names = _every_name(quantized.graph)
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
    assert sqnr(run(crowded), run(quantized)) > 20


def test_every_kind_of_name_is_known() -> None:
    model = _crowded()
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1], np.float32), "sparse"),
        numpy_helper.from_array(np.array([0], np.int64)),
        [4],
    )
    model.graph.sparse_initializer.append(sparse)
    model.graph.value_info.append(helper.make_tensor_value_info("inferred", TensorProto.FLOAT, [1]))
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"], name="inside")], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    names = Names(model)
    known = [
        "input",
        "logits",
        "w0",
        "Conv_0",
        "relu2_scale1",
        "relu2_scale2_node",
        "sparse",
        "inferred",
        "a",
        "b",
        "inside",
    ]
    assert [name for name in known if name not in names] == []
    assert {names.unique(name) for name in known} == {f"{name}_2" for name in known}


def test_a_name_is_given_once() -> None:
    names = Names()
    assert [names.unique("x") for _ in range(3)] == ["x", "x_2", "x_3"]
    assert [names.unique(name) for name in ("x_2", "")] == ["x_2_2", "_2"]


@pytest.mark.parametrize("exclude", [["Conv_1"], [""], ["conv1"]], ids=["by name", "nothing", "by its output"])
@PLACEMENTS
def test_unnamed_layers_are_told_apart(
    network: ModelProto, cache: CalibrationCache, placement: Placement, exclude: list[str]
) -> None:
    for node in network.graph.node:
        if node.name != "Conv_1" or exclude == ["conv1"]:
            node.name = ""
    quantized = insert_qdq(network, cache.scales, placement, [name for name in exclude if name])
    floats = [
        node.input[1]
        for node in quantized.graph.node
        if node.op_type in ("Conv", "Gemm") and not node.input[1].endswith("_dequantized")
    ]
    assert floats == ([] if exclude == [""] else ["w1"])


def test_names_that_tensorrt_cannot_write_are_made_printable(network: ModelProto) -> None:
    odd = {"conv1": "a\nb", "relu1": "a_xa_b", "w1": "w\0", "Conv_1": "\u2028"}
    before = run(network)
    for node in network.graph.node:
        node.name = odd.get(node.name, node.name)
        for tensors in (node.input, node.output):
            for index, tensor in enumerate(tensors):
                tensors[index] = odd.get(tensor, tensor)
    for tensor in network.graph.initializer:
        tensor.name = odd.get(tensor.name, tensor.name)
    made, renamed = printable(network)
    assert renamed == {"a\nb": "a_xa_b_2", "w\0": "w_x0_", "\u2028": "_x2028_"}
    onnx.checker.check_model(made, full_check=True)
    assert all(name.isprintable() for name in Names(made))
    assert np.array_equal(run(made), before)
    assert printable(made) == (made, {})


@PLACEMENTS
def test_layers_of_one_name_are_told_apart_by_their_outputs(
    network: ModelProto, cache: CalibrationCache, placement: Placement
) -> None:
    for node in network.graph.node:
        node.name = "same"
    quantized = insert_qdq(network, cache.scales, placement, ["conv1"])
    floats = [
        node.input[1]
        for node in quantized.graph.node
        if node.op_type in ("Conv", "Gemm") and node.input[1].startswith("w") and len(node.input[1]) == 2
    ]
    assert floats == ["w1"]
    everything = insert_qdq(network, cache.scales, placement, ["same"])
    assert "QuantizeLinear" not in {node.op_type for node in everything.graph.node}


@PLACEMENTS
def test_a_layer_that_batch_normalization_is_folded_into_keeps_its_key(placement: Placement) -> None:
    """Its output is then that of the normalization; who leaves it in float knows it by its own."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> folded (float[n, 2, 8, 8] input) => (float[n, 2, 8, 8] y) <float[2,
        2, 1, 1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] nought = {0, 0}> { made = Conv (input, w) normal =
        BatchNormalization (made, one, nought, nought, one) y = Conv (normal, w) }
        """)
    cache = CalibrationCache(Header.minmax, dict.fromkeys(["input", "made", "normal", "y"], 0.1))
    layers = [
        node for node in insert_qdq(model, cache.scales, placement, ["made"]).graph.node if node.op_type == "Conv"
    ]
    assert [layer.input[1].endswith("_dequantized") for layer in layers] == [False, True]


def test_each_node_gets_a_name_of_its_own() -> None:
    model = parsed(
        "g (float[n] x, bool c) => (float[n] y) { a = Relu(x) b = Exp(a) y = If(c) <then_branch = t () => (float[n] p)"
        " { p = Tanh(b) }, else_branch = e () => (float[n] q) { q = Abs(b) }> }"
    )
    model.graph.node[0].name = model.graph.node[1].name = "same"
    assert name_nodes(model)
    assert [node.name for node in model.graph.node] == ["same", "same_2", "If_y"]
    (then, other) = (attribute.g.node[0].name for attribute in model.graph.node[2].attribute)
    assert {then, other} == {"Tanh_p", "Abs_q"}
    assert not name_nodes(model)
