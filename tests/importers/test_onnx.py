"""An existing ONNX file: what it becomes, and what is refused in which sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from enginewright.config import Export, Model
from enginewright.config.model import Input
from enginewright.errors import ModelError
from enginewright.importers import Imported
from enginewright.importers.compare import compare, require_equal
from enginewright.importers.normalize import normalized
from enginewright.importers.onnx import imported, interface_of_file
from enginewright.interface import AxisRange
from support.onnx_files import answers, normal, parsed

BATCH = {"batch": AxisRange(1, 4, 8)}
ONE = {"batch": AxisRange(1, 1, 1)}
IMAGE = {**BATCH, "height": AxisRange(4, 6, 8), "width": AxisRange(4, 6, 8)}
CONV = {"w": normal(3, 2, 1, 1)}
POOLED = "y = ReduceMean<axes=[2, 3], keepdims=0>(c)"


def brought(
    folder: Path,
    model: onnx.ModelProto,
    axes: Mapping[str, AxisRange] = BATCH,
    opset_version: int = 17,
    **settings: Any,
) -> Imported:
    onnx.save(model, folder / "model.onnx")
    said = Model(source="onnx", path="model.onnx", name="tiny", **settings)
    return imported(folder / "model.onnx", said, Export(opset_version=opset_version), axes)


def shapes(found: Imported) -> dict[str, tuple[int | str, ...]]:
    return {spec.name: spec.shape for spec in (*found.interface.inputs, *found.interface.outputs)}


# --- names and axes


@pytest.mark.parametrize(
    ("fed", "settings", "axes", "shape"),
    [
        pytest.param("N, 2, 4, 4", {}, BATCH, ("batch", 2, 4, 4), id="axis 0 is the batch, whatever its name"),
        pytest.param(", 2, 4, 4", {}, BATCH, ("batch", 2, 4, 4), id="axis 0 without a name"),
        pytest.param("1, 2, 4, 4", {}, BATCH, ("batch", 2, 4, 4), id="a batch of 1 is freed where axes asks for more"),
        pytest.param("1, 2, 4, 4", {}, ONE, (1, 2, 4, 4), id="a batch of 1 that is enough stays"),
        pytest.param(
            "1, 2, 4, 4", {"axis_names": {"x": {0: "batch"}}}, ONE, ("batch", 2, 4, 4), id="a batch of 1 freed by name"
        ),
        pytest.param("N, 2, height, width", {}, IMAGE, ("batch", 2, "height", "width"), id="names of the file"),
        pytest.param(
            "N, 2, , ",
            {"axis_names": {"x": {2: "height", 3: "width"}}},
            IMAGE,
            ("batch", 2, "height", "width"),
            id="names for unnamed axes",
        ),
        pytest.param(
            "N, 2, d.1, d.2",
            {"axis_names": {"x": {2: "height", 3: "width"}}},
            IMAGE,
            ("batch", 2, "height", "width"),
            id="other names",
        ),
        pytest.param("4, 2, 4, 4", {}, {"batch": AxisRange(4, 4, 4)}, (4, 2, 4, 4), id="a batch of 4 stays"),
    ],
)
def test_axes(
    fed: str, settings: dict[str, Any], axes: dict[str, AxisRange], shape: tuple[int | str, ...], tmp_path: Path
) -> None:
    axes_of = [axis.strip() for axis in fed.split(",")]
    model = parsed(f"g (float[N, 2, 4, 4] x) => (float[N, 3] y) {{ c = Conv(x, w) {POOLED} }}", CONV)
    for axis, wanted in zip(model.graph.input[0].type.tensor_type.shape.dim, axes_of):
        axis.Clear()
        if wanted.isdigit():
            axis.dim_value = int(wanted)
        elif wanted:
            axis.dim_param = wanted
    found = brought(tmp_path, model, axes, **settings)
    assert shapes(found) == {"x": shape, "y": (shape[0], 3)}
    assert interface_of_file(tmp_path / "model.onnx", Model(source="onnx", path="model.onnx", **settings), axes)


def test_minus_one_is_an_axis_without_a_name(tmp_path: Path) -> None:
    model = parsed("g (float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    assert shapes(brought(tmp_path, model)) == {"x": ("batch", 4), "y": ("batch", 4)}


def test_an_output_declares_what_it_has_and_not_what_the_file_says(tmp_path: Path) -> None:
    """A file of ddddocr declares another rank than its output has; ONNX Runtime only warns."""
    model = parsed("g (float[n, 4] x) => (float[n] y) { y = Relu(x) }")
    assert shapes(brought(tmp_path, model))["y"] == ("batch", 4)


def test_only_the_outputs_that_are_asked_for(tmp_path: Path) -> None:
    model = parsed("g (float[n, 4] x, float[n, 2] z) => (float[n, 4] a, float[n, 2] b) { a = Relu(x) b = Exp(z) }")
    found = brought(tmp_path, model, outputs=["a"])
    assert shapes(found) == {"x": ("batch", 4), "a": ("batch", 4)}
    assert found.notices == ("no output depends on the input 'z', which is left out",)


# --- what becomes float32


def test_float16_becomes_float32_and_is_compared_with_the_original(tmp_path: Path) -> None:
    weight = normal(4, 3).astype(np.float16)
    model = parsed("g (float16[n, 4] x) => (float16[n, 3] y) { y = MatMul(x, w) }", {"w": weight})
    found = brought(tmp_path, model)
    assert found.interface.inputs[0].dtype == np.float32
    assert found.notices == (
        "float16 become float32, inputs and outputs too: engines are built of that, and answers may differ from the"
        " file's by 0.02",
    )
    comparison = compare(found, normalized(found.model), seed=0, tolerance=1e-4)
    assert 1e-5 < comparison.largest < 5e-3
    require_equal(comparison, found, 1e-5)  # float16 itself is that coarse


def test_q_dq_pairs_are_taken_out_and_the_model_without_them_is_fp32(tmp_path: Path) -> None:
    model = parsed(
        "g (float[n, 4] x) => (float[n, 3] y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
        " e = DequantizeLinear<axis=1>(w, t, u) y = MatMul(d, e) }",
        {
            "s": np.array(0.05, np.float32),
            "z": np.array(0, np.int8),
            "w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
            "t": np.array([0.1, 0.2, 0.3], np.float32),
            "u": np.zeros(3, np.int8),
        },
    )
    found = brought(tmp_path, model)
    assert [node.op_type for node in found.model.graph.node] == ["MatMul"]
    (said,) = found.notices
    assert said.startswith("1 Q/DQ pairs are taken out and 1 weights dequantized")
    assert found.reference is not None
    assert found.reference.framework == "ONNX Runtime, the file without its Q/DQ nodes"
    require_equal(compare(found, normalized(found.model), seed=0), found, 1e-5)


# --- what it is compared with


def test_the_file_itself_is_what_is_compared_with_row_by_row_where_its_batch_was_1(tmp_path: Path) -> None:
    model = parsed(
        "g (float[1, 2, 4] x) => (float[1, 3] y) { f = Reshape(x, s) y = MatMul(f, w) }",
        {"s": np.array([1, 8]), "w": normal(8, 3)},
    )
    found = brought(tmp_path, model)
    assert found.reference is not None
    assert found.reference.framework == "ONNX Runtime, the file as it is"
    assert found.files == (tmp_path / "model.onnx",)
    comparison = compare(found, normalized(found.model), seed=0)
    assert comparison.largest < 1e-6


def test_the_licence_is_a_notice_and_stays_in_the_file(tmp_path: Path) -> None:
    model = parsed("g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }")
    helper.set_model_props(model, {"license": "AGPL-3.0", "author": "Somebody", "date": "today"})
    found = brought(tmp_path, model)
    assert found.notices == ("the file's metadata names a licence of Somebody: AGPL-3.0",)
    assert found.licence == {"licence": "AGPL-3.0", "author": "Somebody"}
    kept = normalized(found.model)
    assert {entry.key: entry.value for entry in kept.metadata_props} == {"license": "AGPL-3.0", "author": "Somebody"}


@pytest.mark.parametrize("opset_version", [13, 17, 20])
def test_an_old_file_answers_the_same(opset_version: int, tmp_path: Path) -> None:
    model = parsed(
        "g (float[n, 2, 4, 4] x, float[3, 2, 1, 1] w) => (float[n, 3, 16] y) { c = Conv(x, w) f = Reshape(c, s)"
        " y = Softmax<axis=2>(f) }",
        {**CONV, "s": np.array([0, 3, 16])},
        opset=9,
        ir_version=3,
    )
    found = brought(tmp_path, model, opset_version=opset_version)
    assert shapes(found) == {"x": ("batch", 2, 4, 4), "y": ("batch", 3, 16)}
    fed = normal(3, 2, 4, 4)
    np.testing.assert_allclose(
        answers(found.model, x=fed)[0],
        answers(onnx.load(tmp_path / "model.onnx"), x=fed)[0],
        rtol=1e-5,
    )


# --- refusals

RELU = "g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }"
REFUSED: list[tuple[str, str, dict[str, Any], Mapping[str, AxisRange], str]] = [
    (
        "an axis without a name",
        "g (float[n, 2, ?, ?] x) => (float[n, 2, h, w] y) { y = Relu(x) }",
        {},
        BATCH,
        "the input 'x' [batch, 2, ?, ?] of model.onnx leaves the dynamic axes 2, 3 unnamed; name them, such as"
        " model.axis_names: {x: {2: height, 3: width}}, and give each a range in axes",
    ),
    (
        "an axis without a range",
        "g (float[n, 2, height, 4] x) => (float[n, 2, height, 4] y) { y = Relu(x) }",
        {},
        {**BATCH, "heigth": AxisRange(1, 2, 3)},
        "the axis 'height' of the input 'x' of model.onnx has no range; set axes.height={min: ..., opt: ..., max: ...};"
        " did you mean 'heigth'?",
    ),
    (
        "a range for no axis",
        RELU,
        {},
        {**BATCH, "height": AxisRange(1, 2, 3)},
        "axes.height is an axis of no input of model.onnx; choose one of batch",
    ),
    (
        "an input that is not there",
        RELU,
        {"axis_names": {"X1": {1: "tokens"}}},
        BATCH,
        "model.axis_names names 'X1', which is no input of model.onnx; choose one of x",
    ),
    (
        "an axis that is not there",
        RELU,
        {"axis_names": {"x": {2: "height"}}},
        BATCH,
        "model.axis_names.x.2: the input has 2 axes in model.onnx, numbered from 0; mend the number",
    ),
    (
        "a fixed size that is no batch",
        RELU,
        {"axis_names": {"x": {1: "tokens"}}},
        BATCH,
        "model.axis_names.x.1: the file fixes that axis at 4, and only a batch of 1 can be freed; export the model"
        " again with a dynamic axis 'tokens', or leave it out of axis_names",
    ),
    (
        "another axis called batch",
        RELU,
        {"axis_names": {"x": {1: "batch"}}},
        BATCH,
        "model.axis_names.x.1: 'batch' cannot be there; axis 0 is `batch`, and no other axis is",
    ),
    (
        "a batch of 4",
        "g (float[4, 2] x) => (float[4, 2] y) { y = Relu(x) }",
        {},
        BATCH,
        "the input 'x' [4, 2] of model.onnx has a fixed batch of 4, and only a batch of 1 can be freed; set"
        " axes.batch={min: 4, opt: 4, max: 4}, or export the model again with a dynamic batch",
    ),
    (
        "a batch that cannot be freed",
        "g (float[1, 4] x) => (float[1, 4] y) { s = Squeeze(x, a) u = Softmax<axis=0>(s) y = Unsqueeze(u, a) }",
        {},
        BATCH,
        "the batch of 1 in 'x' of model.onnx cannot be freed: at batch 2, ",
    ),
    (
        "rows that influence each other",
        "g (float[n, 4] x) => (float[n, 4] y) { y = Softmax<axis=0>(x) }",
        {},
        BATCH,
        "model.onnx does not take a batch of 2 as it takes each row alone, though its batch is dynamic: 'y' of a row",
    ),
    (
        "a batch elsewhere",
        "g (float[n, 4] x, float[2, n, 4] h) => (float[n, 4] y) { r = ReduceSum<keepdims=0>(h, a) y = Add(x, r) }",
        {},
        BATCH,
        "the input 'h' [2, batch, 4] of model.onnx has its batch at place 1; the pipeline puts samples together along"
        " axis 0: export the model with the batch there",
    ),
    (
        "inputs that begin with different sizes",
        "g (float[1, 4] x, float[2, 1, 4] h) => (float[1, 4] y) { r = ReduceSum<keepdims=0>(h, a) y = Add(x, r) }",
        {},
        BATCH,
        "the input 'h' [2, 1, 4] of model.onnx does not begin with a batch of 1 as the others do, and the pipeline puts"
        " samples together along axis 0; export the model with the batch there",
    ),
    (
        "an output without the batch",
        "g (float[n, 4] x) => (float[n, 4] y, float[4] z) { y = Relu(x) z = ReduceSum<keepdims=0>(x, a) }",
        {},
        BATCH,
        "the output 'z' of model.onnx is [4] for one row, and its first axis must be the batch; set model.outputs=[y]",
    ),
    (
        "a single number",
        "g (float[n, 4] x, float s) => (float[n, 4] y) { y = Mul(x, s) }",
        {},
        BATCH,
        "the input 's' of model.onnx is a single number, and the pipeline feeds a row for each sample; make it a"
        " constant of the model, or export the model without it",
    ),
    (
        "text",
        "g (string[n, 4] x) => (string[n, 4] y) { y = Identity(x) }",
        {},
        BATCH,
        "the input 'x' of model.onnx takes text; take that part out of the model, so that it takes numbers",
    ),
    (
        "an output that is no tensor",
        "g (float[n, 4] x) => (float[n, 4] y, seq(float[n, 4]) z) { y = Relu(x) z = SequenceConstruct(x) }",
        {},
        BATCH,
        "the output 'z' of model.onnx is not a tensor of numbers; set model.outputs=[y]",
    ),
    (
        "an output that is not there",
        RELU,
        {"outputs": ["scores"]},
        BATCH,
        "model.outputs names 'scores', which is no output of model.onnx; choose one of y",
    ),
    (
        "inputs that do not agree",
        RELU,
        {"inputs": {"x": Input(["batch", 3, 4], "float32")}},
        BATCH,
        "model.inputs.x is float32 [batch, 3, 4], and in model.onnx it is float32 [batch, 4]; leave model.inputs out,"
        " as it is read from the file",
    ),
    (
        "operators that compute with integers",
        "g (float[n, 4] x) => (float[n, 4] y) { q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w8, z)"
        " y = Cast<to=1>(i) }",
        {},
        BATCH,
        "model.onnx computes with integers in DynamicQuantizeLinear, MatMulInteger, and no float model can be made of"
        " that; bring the float model that it was quantized from",
    ),
    (
        "an input of integers that is dequantized",
        "g (int8[n, 4] x) => (float[n, 4] y) { y = DequantizeLinear(x, scale) }",
        {},
        BATCH,
        "the node 'DequantizeLinear_y' of model.onnx is half of a Q/DQ pair, as an input or output is of integers;"
        " bring the float model that it was quantized from",
    ),
]
WEIGHTS = {"a": np.array([0]), "w8": np.ones((4, 4), np.int8), "scale": np.array(0.1, np.float32)}


@pytest.mark.parametrize(("graph", "settings", "axes", "sentence"), [pytest.param(*rest, id=i) for i, *rest in REFUSED])
def test_what_is_refused_says_what_to_do(
    graph: str, settings: dict[str, Any], axes: Mapping[str, AxisRange], sentence: str, tmp_path: Path
) -> None:
    used = {name: array for name, array in WEIGHTS.items() if f"{name})" in graph or f", {name}" in graph}
    with pytest.raises(ModelError) as caught:
        brought(tmp_path, parsed(graph, used), axes, **settings)
    assert str(caught.value).startswith(sentence)
