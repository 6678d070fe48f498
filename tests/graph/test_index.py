"""The index of a graph: what is constant, what cannot be negative, and that neither takes longer than one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from enginewright.graph.index import Graph
from support.networks import residual_network

Array = npt.NDArray[Any]
TABLE = np.arange(6, dtype=np.float32).reshape(2, 3)
FIVE = np.arange(-2, 3, dtype=np.float32)
node = helper.make_node


def model(
    nodes: Sequence[NodeProto], stored: Sequence[TensorProto] = (), output: str = "y", shape: Sequence[Any] = ("n", 5)
) -> ModelProto:
    """A graph from `x`, float32 of `shape`, to `output`."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), helper.make_empty_tensor_value_info(output)]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], list(stored))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stored(name: str, value: Any, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def answers(made: ModelProto, x: Array) -> Array:
    import onnxruntime

    result: Array = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0]
    return result


def sparse(name: str) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(stored(name, [7, 8]), stored("", [1, 4], np.int64), [5])


CONSTANTS = {
    "value": ([node("Constant", [], ["c"], value=stored("", FIVE))], FIVE),
    "value_float": ([node("Constant", [], ["c"], value_float=2.5)], np.array(2.5, np.float32)),
    "value_floats": ([node("Constant", [], ["c"], value_floats=[1.5, 2.5])], np.array([1.5, 2.5], np.float32)),
    "value_int": ([node("Constant", [], ["c"], value_int=3)], np.array(3, np.int64)),
    "value_ints": ([node("Constant", [], ["c"], value_ints=[3, 4])], np.array([3, 4], np.int64)),
    "sparse_value": ([node("Constant", [], ["c"], sparse_value=sparse("s"))], np.array([0, 7, 0, 0, 8], np.float32)),
    "Identity": ([node("Identity", ["five"], ["c"])], FIVE),
    "Cast": ([node("Cast", ["half"], ["c"], to=TensorProto.FLOAT)], np.array([0.5, 2], np.float32)),
    "Transpose": ([node("Transpose", ["table"], ["c"], perm=[1, 0])], TABLE.T),
    "Reshape": (
        [node("Constant", [], ["s"], value_ints=[3, 2]), node("Reshape", ["table", "s"], ["c"])],
        TABLE.reshape(3, 2),
    ),
    "ConstantOfShape": (
        [node("Constant", [], ["s"], value_ints=[2]), node("ConstantOfShape", ["s"], ["c"], value=stored("", [4]))],
        np.array([4, 4], np.float32),
    ),
    "a chain": (
        [node("Abs", ["five"], ["a"]), node("Mul", ["a", "five"], ["b"]), node("Identity", ["b"], ["c"])],
        np.abs(FIVE) * FIVE,
    ),
}
HELD = [
    stored("five", FIVE),
    stored("half", [0.5, 2], np.float16),
    stored("table", TABLE),
]


@pytest.mark.parametrize(("nodes", "value"), CONSTANTS.values(), ids=CONSTANTS.keys())
def test_a_constant_is_known_whatever_it_stands_behind(nodes: list[NodeProto], value: Array) -> None:
    graph = Graph(model([*nodes, node("Identity", ["x"], ["y"])], HELD))
    found = graph.constant("c")
    assert found is not None
    np.testing.assert_array_equal(found, value)
    assert (graph.is_constant("c"), graph.constant_shape("c"), found.dtype) == (
        True,
        np.shape(value),
        np.asarray(value).dtype,
    )


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Identity", ["x"], ["c"])],
        [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["c"])],
        [node("RandomNormal", [], ["c"], shape=[2])],
        [node("Relu", ["five"], ["c"], domain="own")],
    ],
    ids=["the input", "its shape", "random", "another domain"],
)
def test_what_is_no_constant(nodes: list[NodeProto]) -> None:
    graph = Graph(model([*nodes, node("Identity", ["x"], ["y"])], HELD))
    assert (graph.is_constant("c"), graph.constant("c")) == (False, None)


def test_a_sparse_initializer_is_a_constant() -> None:
    made = model([node("Add", ["x", "s"], ["y"])])
    made.graph.sparse_initializer.append(sparse("s"))
    np.testing.assert_array_equal(Graph(made).constant("s"), [0, 7, 0, 0, 8])


LIMITS = [
    stored("zero", 0),
    stored("one", [1.0]),
    stored("minus", -1.0),
    stored("six", 6),
    stored("five", FIVE),
    stored("pads", [0, 1, 0, 1], np.int64),
]
SIGNED = {
    "Clip from a positive minimum": [node("Clip", ["x", "one"], ["y"])],
    "Clip from 0, both limits": [node("Clip", ["x", "zero", "six"], ["y"])],
    "Clip without a minimum, behind a Relu": [node("Relu", ["x"], ["r"]), node("Clip", ["r", "", "six"], ["y"])],
    "x times x": [node("Mul", ["x", "x"], ["y"])],
    "Softmax": [node("Softmax", ["x"], ["y"])],
    "Sigmoid": [node("Sigmoid", ["x"], ["y"])],
    "Relu plus Relu": [node("Relu", ["x"], ["r"]), node("Add", ["r", "r"], ["y"])],
    "Relu times a constant that is not negative": [node("Relu", ["x"], ["r"]), node("Mul", ["r", "six"], ["y"])],
}
UNSIGNED = {
    "Clip with the limits in the wrong order": [node("Clip", ["x", "zero", "minus"], ["y"])],
    "Clip to a negative maximum, behind a Relu": [node("Relu", ["x"], ["r"]), node("Clip", ["r", "", "minus"], ["y"])],
    "Clip without limits": [node("Clip", ["x"], ["y"])],
    "Clip to 6": [node("Clip", ["x", "", "six"], ["y"])],
    "Clip to what is computed": [
        node("ReduceMin", ["x"], ["least"], keepdims=0),
        node("Clip", ["x", "zero", "least"], ["y"]),
    ],
    "Relu times a constant with negative values": [node("Relu", ["x"], ["r"]), node("Mul", ["r", "five"], ["y"])],
    "Relu plus the input": [node("Relu", ["x"], ["r"]), node("Add", ["r", "x"], ["y"])],
    "Relu, then -x": [node("Relu", ["x"], ["r"]), node("Neg", ["r"], ["y"])],
    "LeakyRelu": [node("LeakyRelu", ["x"], ["y"])],
    "Pad with -1": [node("Relu", ["x"], ["r"]), node("Pad", ["r", "pads", "minus"], ["y"])],
    "Relu, then minus 6": [node("Relu", ["x"], ["r"]), node("Sub", ["r", "six"], ["y"])],
}


@pytest.mark.parametrize(
    ("nodes", "claimed"),
    [(each, True) for each in SIGNED.values()] + [(each, False) for each in UNSIGNED.values()],
    ids=[*SIGNED, *UNSIGNED],
)
def test_what_is_said_to_be_non_negative_is(nodes: list[NodeProto], claimed: bool) -> None:
    """A wrong claim would clip every negative value, silently."""
    made = model(nodes, LIMITS)
    assert Graph(made).is_non_negative("y") is claimed
    least = answers(made, np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)).min()
    assert least >= 0 if claimed else least <= 6


def test_an_operator_of_another_domain_is_not_what_its_name_says() -> None:
    graph = Graph(
        model(
            [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"], domain="own")], [stored("w", np.zeros((1, 1)))]
        )
    )
    assert not graph.is_non_negative("y")
    assert graph.behind_relu("c") == "c"


def test_a_limit_of_shape_1_is_a_limit() -> None:
    """`float` of such an array is an error in numpy 2.5, and a warning before."""
    graph = Graph(
        model(
            [node("Conv", ["x", "w"], ["c"]), node("Clip", ["c", "zero"], ["y"])],
            [stored("w", np.zeros((1, 1))), stored("zero", [0.0])],
        )
    )
    assert graph.behind_relu("c") == "y"
    assert graph.is_non_negative("y")


def test_a_tensor_that_an_inner_graph_reads_is_not_behind_its_relu() -> None:
    """The branch reads it before the Relu: a backend cannot fuse the two, and the range is that of the tensor."""
    branch = helper.make_graph(
        [node("Identity", ["c"], ["i"])], "branch", [], [helper.make_empty_tensor_value_info("i")]
    )
    nodes = [
        node("Abs", ["x"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = Graph(model(nodes, [stored("yes", True, bool)]))
    assert (graph.captured, graph.behind_relu("c")) == ({"c", "i"}, "c")
    assert graph.producer("c") is graph.nodes[0]


def test_five_thousand_residual_blocks_and_forty_diamonds_take_one_pass() -> None:
    """A recursion ended at 333 blocks, and took 2^n steps for n diamonds."""
    nodes, last = [node("Relu", ["x"], ["r0"])], "r0"
    for block in range(5000):
        nodes += [node("Sigmoid", [last], [f"s{block}"]), node("Add", [f"s{block}", last], [f"a{block}"])]
        last = f"a{block}"
    for level in range(40):
        nodes += [node("Identity", [last], [f"left{level}"]), node("Identity", [last], [f"right{level}"])]
        nodes.append(node("Add", [f"left{level}", f"right{level}"], [f"joined{level}"]))
        last = f"joined{level}"
    graph = Graph(model([*nodes, node("Sub", [last, "r0"], ["y"])]))
    assert graph.is_non_negative(last)
    assert not graph.is_non_negative("y")


def test_types_and_shapes_need_no_weights() -> None:
    graph = Graph(residual_network())
    assert graph.element_type("conv0") == TensorProto.FLOAT
    assert graph.static_shape("conv0") == (None, 8, 12, 12)
    assert (graph.element_type("w0"), graph.static_shape("w0")) == (TensorProto.FLOAT, (8, 3, 3, 3))
    assert (graph.element_type("nowhere"), graph.static_shape("nowhere")) == (TensorProto.UNDEFINED, None)
