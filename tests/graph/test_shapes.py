"""Shape arithmetic over fixed axes is folded, with the same answers; multiplications are counted from what is known
then.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtimes.tensorrt.networks import resnet

from enginewright.graph.multiplications import multiplications
from enginewright.graph.shapes import fold_static_shapes, tensor_shapes

Array = npt.NDArray[Any]
Shape = list[Any]


def graph(nodes: list[onnx.NodeProto], shape: Shape, weights: dict[str, Array], result: Shape) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name, axes in (("x", shape), ("y", result))
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def attention_scale() -> onnx.ModelProto:
    """As PyTorch writes the scale of scaled_dot_product_attention with a dynamic batch: the last axis, as a float."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "minus_one", "end"], ["width"]),
        helper.make_node("Cast", ["width"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["real"], ["root"]),
        helper.make_node("Div", ["one", "root"], ["scale"]),
        helper.make_node("Mul", ["x", "scale"], ["y"]),
    ]
    weights = {"minus_one": np.array([-1]), "end": np.array([2**63 - 1]), "one": np.array([1], np.float32)}
    return graph(nodes, ["batch", 5, 16], weights, ["batch", 5, 16])


def same_answers(model: onnx.ModelProto, folded: onnx.ModelProto, *shapes: tuple[int, ...]) -> bool:
    ort = pytest.importorskip("onnxruntime")
    sessions = [
        ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]) for one in (model, folded)
    ]
    for shape in shapes:
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        before, after = (session.run(None, {"x": x})[0] for session in sessions)
        np.testing.assert_array_equal(before, after)
    return True


def test_float_arithmetic_on_a_fixed_axis_becomes_a_constant() -> None:
    model = attention_scale()
    folded = fold_static_shapes(model)
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == ["Mul"]
    assert {tensor.name for tensor in folded.graph.initializer} == {"scale"}
    assert same_answers(model, folded, (1, 5, 16), (3, 5, 16))
    assert len(model.graph.node) == 6  # the model that was given is as it was


def test_a_scale_that_depends_on_the_batch_stays() -> None:
    model = attention_scale()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "width"
    assert [node.op_type for node in fold_static_shapes(model).graph.node] == [
        node.op_type for node in model.graph.node
    ]


@pytest.mark.parametrize(
    ("sizes", "target"), [([4, 4], [-1, 4, 4]), ([2, -1], None)], ids=["one dynamic axis", "a -1 of its own"]
)
def test_a_reshape_with_one_dynamic_axis_has_a_constant_shape(sizes: list[int], target: Optional[Shape]) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "sizes"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    model = graph(nodes, ["batch", 16], {"first": np.array([0]), "sizes": np.array(sizes)}, ["batch", sizes[0], None])
    folded = fold_static_shapes(model)
    onnx.checker.check_model(folded, full_check=True)
    assert same_answers(model, folded, (1, 16), (3, 16))
    if target is None:  # two of -1 are no shape
        assert len(folded.graph.node) == 4
    else:
        assert [node.op_type for node in folded.graph.node] == ["Reshape"]
        assert numpy_helper.to_array(folded.graph.initializer[0]).tolist() == target


def test_two_dynamic_axes_leave_the_reshape_and_are_no_hindrance_behind_it() -> None:
    """Heads of nn.MultiheadAttention: [tokens, batch * heads, width], where both of the first depend on the input."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["tokens"]),
        helper.make_node("Gather", ["shape", "one"], ["batch"]),
        helper.make_node("Mul", ["batch", "heads"], ["pairs"]),
        helper.make_node("Concat", ["tokens", "pairs", "width"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["split"]),
        helper.make_node("Shape", ["split"], ["split_shape"]),
        helper.make_node("Gather", ["split_shape", "two"], ["last"]),
        helper.make_node("Cast", ["last"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["real"], ["root"]),
        helper.make_node("Div", ["split", "root"], ["y"]),
    ]
    weights = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "heads": np.array([4]),
        "width": np.array([8]),
    }
    model = graph(nodes, ["tokens", "batch", 32], weights, [None, None, 8])
    folded = fold_static_shapes(model)
    assert Counter(node.op_type for node in folded.graph.node) == {
        "Shape": 1,
        "Gather": 2,
        "Mul": 1,
        "Concat": 1,
        "Reshape": 1,
        "Div": 1,
    }
    assert same_answers(model, folded, (3, 2, 32), (5, 7, 32))


def test_what_is_an_output_or_read_by_an_inner_graph_stays() -> None:
    model = attention_scale()
    model.graph.output.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    folded = fold_static_shapes(model)
    assert [node.op_type for node in folded.graph.node] == [
        "Div",
        "Mul",
    ]  # of constants: an output must be made by a node
    onnx.checker.check_model(folded, full_check=True)


def test_a_new_name_is_never_one_of_the_models() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "sizes"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y_made"]),
        helper.make_node("Mul", ["y_made", "y_made_shape"], ["y"]),
    ]
    weights = {"first": np.array([0]), "sizes": np.array([4, 4]), "y_made_shape": np.array([3], np.float32)}
    model = graph(nodes, ["batch", 16], weights, ["batch", 4, 4])
    folded = fold_static_shapes(model)
    assert [node.op_type for node in folded.graph.node] == ["Reshape", "Mul"]
    assert same_answers(model, folded, (2, 16))


SHAPES = {"Shape", "Cast", "Sqrt"}


@pytest.mark.parametrize("name", ["vit", "swin", "multihead_attention", "detr_queries", "mixer", "yolo_head"])
def test_exported_models_hold_no_float_arithmetic_on_shapes(name: str) -> None:
    pytest.importorskip("torch")
    from support.small_models import exported

    model = exported(name)
    from_shapes, floats = set[str](), []
    for node in model.graph.node:
        if node.op_type == "Shape" or (node.op_type != "Reshape" and from_shapes.intersection(node.input[:1])):
            from_shapes.update(node.output)
            if node.op_type in ("Cast", "Sqrt", "Div", "Pow"):
                floats.append(node.name)
    assert floats == []
    assert all(count for count in multiplications(model).values())


def test_multiplications_of_a_known_network() -> None:
    """ResNet-50 v1.5 does 4.09 thousand million for one image of 224 pixels (torchvision states 4.09 GFLOPS)."""
    counts = multiplications(resnet())
    assert len(counts) == 54
    assert sum(count or 0 for count in counts.values()) == 4_089_184_256


@pytest.mark.parametrize(
    ("operator", "weight", "shape", "attributes", "expected"),
    [
        pytest.param("Conv", (8, 3, 3, 3), ["batch", 3, 6, 6], {"pads": [1] * 4}, 36 * 8 * 27, id="Conv"),
        pytest.param(
            "Conv", (6, 1, 3, 3), ["batch", 6, 4, 4], {"pads": [1] * 4, "group": 6}, 16 * 6 * 9, id="depthwise"
        ),
        pytest.param(
            "ConvTranspose", (4, 2, 2, 2), ["batch", 4, 5, 5], {"strides": [2, 2]}, 25 * 4 * 2 * 4, id="ConvTranspose"
        ),
        pytest.param("Gemm", (7, 5), ["batch", 5], {"transB": 1}, 35, id="Gemm"),
        pytest.param("MatMul", (5, 7), ["batch", 3, 5], {}, 3 * 5 * 7, id="MatMul over tokens"),
        pytest.param("MatMul", (5,), ["batch", 5], {}, 5, id="MatMul by a vector"),
        pytest.param("MatMul", (5, 7), ["batch", None, 5], {}, None, id="unknown tokens"),
    ],
)
def test_multiplications_by_operator(
    operator: str, weight: tuple[int, ...], shape: Shape, attributes: dict[str, Any], expected: Optional[int]
) -> None:
    weights: dict[str, Array] = {"w": np.ones(weight, np.float32)}
    inputs = ["x", "w"]
    node = helper.make_node(operator, inputs, ["y"], **attributes)
    model = graph([node], shape, weights, [])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert multiplications(model) == {"y": expected}


def test_shapes_with_a_batch() -> None:
    assert tensor_shapes(attention_scale(), batch=3)["y"] == (3, 5, 16)
    assert tensor_shapes(attention_scale())["y"] == (None, 5, 16)
