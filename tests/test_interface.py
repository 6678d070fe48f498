"""What a model takes and gives, by names of tensors and axes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Optional

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginewright.errors import ConfigError, EnginewrightError, ModelError
from enginewright.interface import BATCH, UNNAMED, AxisRange, Interface, ShapeRange, TensorSpec

FLOAT = np.dtype(np.float32)
IMAGES = TensorSpec("images", FLOAT, (BATCH, 3, "height", "width"))
SIZES = TensorSpec("sizes", np.dtype(np.int64), (BATCH, 2))
BOXES = TensorSpec("boxes", FLOAT, (BATCH, 84, "anchors"))
DETECTOR = Interface((IMAGES, SIZES), (BOXES,))
AXES = {BATCH: AxisRange(1, 8, 32), "height": AxisRange(320, 640, 1280), "width": AxisRange(320, 640, 1280)}


def test_every_input_has_the_shapes_that_its_axes_range_over() -> None:
    assert DETECTOR.axes() == (BATCH, "height", "width")
    assert DETECTOR.shapes(AXES) == {
        "images": ShapeRange((1, 3, 320, 320), (8, 3, 640, 640), (32, 3, 1280, 1280)),
        "sizes": ShapeRange((1, 2), (8, 2), (32, 2)),
    }


def test_a_scalar_has_one_shape() -> None:
    assert Interface((TensorSpec("threshold", FLOAT, ()),), ()).shapes({}) == {"threshold": ShapeRange((), (), ())}


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        pytest.param(
            (BATCH, 3, "hight"),
            "the axis 'hight' of the input 'x' ['batch', 3, 'hight'] has no range; there is one for batch; set"
            " axes.hight={min: ..., opt: ..., max: ...}, or export the model with a fixed size",
            id="no-range",
        ),
        pytest.param(
            (BATCH, UNNAMED),
            "the input 'x' ['batch', ''] has a dynamic axis without a name at place 1; export the model with a name for"
            " it, or with a fixed size",
            id="no-name",
        ),
    ],
)
def test_an_axis_that_nothing_is_known_of_is_refused(shape: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as fault:
        Interface((TensorSpec("x", FLOAT, shape),), ()).shapes({BATCH: AxisRange(1, 1, 1)})
    assert str(fault.value) == sentence


@pytest.mark.parametrize("sizes", [(2, 1, 4), (1, 5, 4), (0, 1, 1)], ids=str)
def test_a_range_ascends_from_one(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=f"min {sizes[0]}, opt {sizes[1]}, max {sizes[2]}; write them in ascending"):
        AxisRange(*sizes)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_tensor_is_found_by_name_and_the_nearest_is_named_for_a_wrong_one(kind: str) -> None:
    interface = Interface((IMAGES,), (TensorSpec("images", FLOAT, ()),))
    assert getattr(interface, kind)("images").name == "images"
    with pytest.raises(EnginewrightError, match=f"there is no {kind} 'imagse'; did you mean 'images'"):
        getattr(interface, kind)("imagse")


@pytest.mark.parametrize(
    ("axes", "shape", "rows"),
    [
        pytest.param(AXES, (BATCH, 3), 32, id="dynamic"),
        pytest.param({}, (7, 3), 7, id="fixed"),
        pytest.param({}, (), 1, id="scalar"),
    ],
)
def test_the_largest_batch_is_that_of_the_range_or_the_fixed_one(
    axes: dict[str, AxisRange], shape: tuple[Any, ...], rows: int
) -> None:
    assert Interface((TensorSpec("x", FLOAT, shape),), ()).rows(axes) == rows


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((UNNAMED, 3), (BATCH, 3), id="unnamed"),
        pytest.param(("N", 3, "N"), (BATCH, 3, BATCH), id="shared"),
        pytest.param(("N", UNNAMED), (BATCH, UNNAMED), id="unnamed-behind-it"),
        pytest.param((4, "length"), (4, "length"), id="fixed"),
        pytest.param((), (), id="scalar"),
    ],
)
def test_the_first_dynamic_axis_is_the_batch_whatever_the_model_calls_it(
    before: tuple[Any, ...], after: tuple[Any, ...]
) -> None:
    made = Interface((TensorSpec("x", FLOAT, before),), (TensorSpec("y", FLOAT, before),)).with_batch()
    assert (made.inputs[0].shape, made.outputs[0].shape) == (after, after)


def test_it_survives_json() -> None:
    interface = Interface((IMAGES, TensorSpec("pixels", np.dtype(np.int8), (BATCH, 3), 0.5)), (BOXES,))
    assert Interface.from_dict(json.loads(json.dumps(interface.to_dict()))) == interface


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"inputs": []}, id="no-outputs"),
        pytest.param({"inputs": [{"name": "x", "dtype": "float32"}], "outputs": []}, id="no-shape"),
        pytest.param({"inputs": [{"name": 3, "dtype": "float32", "shape": []}], "outputs": []}, id="name"),
        pytest.param({"inputs": [{"name": "x", "dtype": "float32", "shape": [None]}], "outputs": []}, id="axis"),
        pytest.param({"inputs": [{"name": "x", "dtype": "real", "shape": []}], "outputs": []}, id="dtype"),
    ],
)
def test_json_of_anything_else_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Interface.from_dict(values)


def _model(kind: int = TensorProto.FLOAT, shape: Optional[list[Any]] = None) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info("x", kind, shape),
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, [2]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None])]
    graph = helper.make_graph([], "g", inputs, outputs, [helper.make_tensor("weight", TensorProto.FLOAT, [2], [1, 2])])
    return helper.make_model(graph)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(TensorProto.FLOAT, "float32", id="float"),
        pytest.param(TensorProto.BOOL, "bool", id="bool"),
        pytest.param(TensorProto.DOUBLE, "float64", id="double"),
        pytest.param(TensorProto.INT8, "int8", id="int8"),
    ],
)
def test_it_is_read_from_an_onnx_model_without_its_weights(kind: int, dtype: str) -> None:
    read = Interface.from_onnx(_model(kind, ["n", 3, None]))
    assert read == Interface(
        (TensorSpec("x", np.dtype(dtype), ("n", 3, UNNAMED)),), (TensorSpec("y", FLOAT, ("n", UNNAMED)),)
    )


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        pytest.param(
            _model(TensorProto.BFLOAT16, [1]),
            "'x' is BFLOAT16, which NumPy lacks; export the model with another type for it",
            id="bfloat16",
        ),
        pytest.param(_model(), "the input 'x' has no shape in the ONNX; export the model with one", id="no-shape"),
        pytest.param(
            helper.make_model(
                helper.make_graph([], "g", [helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)], [])
            ),
            "'x' is a sequence_type, not a tensor; export it as tensors",
            id="sequence",
        ),
    ],
)
def test_what_no_engine_takes_is_refused_in_a_sentence(model: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(ModelError) as fault:
        Interface.from_onnx(model)
    assert str(fault.value) == sentence


def test_it_needs_numpy_alone() -> None:
    """Beside the standard library: a target reads an engine's interface with what the wheel's base installs."""
    code = "import sys, enginewright.interface; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not {"onnx", "omegaconf", "yaml", "onnxruntime", "PIL", "pandas", "scipy", "rich"} & set(loaded)
