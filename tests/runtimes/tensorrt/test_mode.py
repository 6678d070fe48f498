"""What `auto` chooses is a pure rule over the graph (docs/decisions/0020-precision-mode.md)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtimes.tensorrt.networks import resnet

from enginewright.runtimes.tensorrt.mode import features, recommended


@pytest.mark.parametrize(
    ("name", "mode", "attention", "norms", "transposed"),
    [
        ("vit", "explicit", 4, 5, 0),
        ("swin", "explicit", 4, 6, 0),
        ("multihead_attention", "explicit", 4, 2, 0),
        ("detr_queries", "explicit", 8, 6, 0),
        ("mixer", "explicit", 0, 5, 0),
        ("grn", "explicit", 0, 1, 0),
        ("unet", "explicit", 0, 0, 2),
        ("squeeze_excite", "implicit", 0, 0, 0),
        ("yolo_head", "implicit", 0, 0, 0),
    ],
)
def test_the_rule_on_small_models(name: str, mode: str, attention: int, norms: int, transposed: int) -> None:
    pytest.importorskip("torch")
    from support.small_models import exported

    model = exported(name)
    found = features(model)
    assert (len(found.attention), len(found.norms), len(found.transposed)) == (attention, norms, transposed)
    assert recommended(model)[0].name == mode


def test_convolutions_alone_are_implicit() -> None:
    mode, why = recommended(resnet((1,), 4, 8, 10))
    assert (mode.name, why) == ("implicit", "convolutions: TensorRT places INT8 by measured time")


def _model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 4]) for name in ("x", "y")]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], stored), opset_imports=[helper.make_opsetid("", 13)]
    )


def test_a_softmax_over_classes_is_no_attention() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="in"),
        helper.make_node("Softmax", ["h"], ["p"], name="soft"),
        helper.make_node("MatMul", ["p", "w"], ["y"], name="out"),
    ]
    model = _model(nodes, {"w": np.ones((4, 4), np.float32)})
    assert features(model).attention == ()
    assert recommended(model)[0].name == "implicit"


def test_attention_is_found_through_scale_and_mask() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["s"], name="scores"),
        helper.make_node("Div", ["s", "root"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "mask"], ["masked"], name="add"),
        helper.make_node("Softmax", ["masked"], ["p"], name="soft"),
        helper.make_node("MatMul", ["p", "x"], ["y"], name="values"),
    ]
    model = _model(nodes, {"root": np.array(2, np.float32), "mask": np.zeros((4, 4), np.float32)})
    assert features(model).attention == ("scores", "values")


def test_a_layer_norm_written_out_is_found() -> None:
    """As PyTorch exports it below opset 17."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[-1]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Pow", ["centred", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["variance"], axes=[-1]),
        helper.make_node("Add", ["variance", "epsilon"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["y"], name="norm"),
    ]
    model = _model(nodes, {"two": np.array(2, np.float32), "epsilon": np.array(1e-5, np.float32)})
    assert features(model).norms == ("norm",)
    assert recommended(model)[0].name == "explicit"
