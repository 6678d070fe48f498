"""What check_onnx says about infinities that hide, about files from elsewhere, and about damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from enginewright.check_onnx import Finding, Severity, inspect
from support.fuzz_hostile import MUTATIONS, write

Array = np.ndarray[Any, np.dtype[Any]]
INFINITY, LEAST = np.float32(np.inf), np.finfo(np.float32).min


def model_of(nodes: Sequence[NodeProto], weights: dict[str, Array], producer: str = "pytorch") -> ModelProto:
    """From input [n, 4, 4] to output."""
    fed = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 4, 4])
    returned = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", "rows", "columns"])
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [fed], [returned], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=producer, producer_version="9")


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name=f"{operator} of {output}", **attributes)


def found(model: ModelProto, folder: Path, opset_version: int | None = None) -> list[Finding]:
    onnx.save(model, folder / "model.onnx")
    return [
        finding
        for finding in inspect(folder / "model.onnx", opset_version).findings
        if finding.severity is not Severity.note
    ]


CAUSAL = np.triu(np.full((4, 4), -INFINITY, np.float32), 1)
BIASED = np.where(np.isinf(CAUSAL), CAUSAL, np.float32(0.3)).astype(np.float32)
SOFTMAX = node("Softmax", "scores", "output", axis=-1)
HIDING = [
    pytest.param([node("Add", "input mask", "scores"), SOFTMAX], CAUSAL, id="causal mask"),
    pytest.param([node("Add", "mask input", "scores"), SOFTMAX], BIASED, id="position bias with a mask in it"),
    pytest.param([node("Where", "choice mask input", "scores"), SOFTMAX], np.array(-INFINITY), id="masked_fill"),
    pytest.param(
        [node("Expand", "mask shape", "wide"), node("Add", "input wide", "scores"), SOFTMAX],
        np.array([-INFINITY]),
        id="expanded",
    ),
    pytest.param([node("Sub", "input mask", "scores"), SOFTMAX], -CAUSAL, id="subtracted"),
    pytest.param([node("Add", "input mask", "scores"), node("Relu", "scores", "output")], CAUSAL, id="cut by a ReLU"),
    pytest.param(
        [node("Add", "input mask", "scores"), node("ReduceMax", "scores", "output", axes=[-1])],
        CAUSAL,
        id="largest of what is not hidden",
    ),
    pytest.param(
        [
            node("Pad", "input around mask", "wide"),
            node("Unsqueeze", "wide axis", "image"),
            node("MaxPool", "image", "largest", kernel_shape=[3, 3]),
        ]
        + [node("Squeeze", "largest axis", "output")],
        np.array(-INFINITY),
        id="padding before a MaxPool",
    ),
    pytest.param([node("Clip", "input floor mask", "output")], np.array(INFINITY), id="limit of a Clip"),
    pytest.param([node("Min", "input mask", "output")], np.array([INFINITY]), id="limit by Min"),
    pytest.param(
        [node("Less", "input mask", "yes"), node("Where", "yes input floor", "output")],
        np.array(INFINITY),
        id="compared",
    ),
]


@pytest.mark.parametrize(("nodes", "mask"), HIDING)
def test_an_infinity_that_hides_is_no_divergence(nodes: list[NodeProto], mask: Array, tmp_path: Path) -> None:
    others = {
        "around": np.array([0, 1, 1, 0, 1, 1]),
        "axis": np.array([1]),
        "choice": np.triu(np.ones((4, 4), bool), 1),
        "shape": np.array([4, 4]),
        "floor": np.array(0, np.float32),
    }
    for value in (mask, np.clip(mask, LEAST, -LEAST)):  # -inf, and the least float32 in its place
        read = {name for each in nodes for name in each.input}
        stored = {"mask": value.astype(np.float32), **{name: array for name, array in others.items() if name in read}}
        assert found(model_of(nodes, stored), tmp_path) == []


ATTENTION = {
    "BERT": [
        node("Cast", "attention", "kept", to=TensorProto.FLOAT),
        node("Sub", "one kept", "hidden"),
        node("Mul", "hidden mask", "scaled"),
    ],
    "from a comparison": [
        node("Less", "input one", "padding"),
        node("Cast", "padding", "hidden", to=TensorProto.FLOAT),
        node("Mul", "mask hidden", "scaled"),
    ],
    "from a sum of the input": [
        node("ReduceMax", "input", "hidden", axes=[-1], keepdims=1),
        node("Mul", "hidden mask", "scaled"),
    ],
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_a_mask_that_is_multiplied_hides_where_integers_choose(kind: str, tmp_path: Path) -> None:
    nodes = [*ATTENTION[kind], node("Add", "input scaled", "scores"), SOFTMAX]
    model = model_of(nodes, {"mask": np.array([LEAST]), "one": np.array([1], np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("attention", TensorProto.INT64, ["n", 1, 4]))
    said = {str(each.severity.name): each.what for each in found(model, tmp_path) if "input" not in each.what}
    if kind == "from a sum of the input":
        assert "so that float32 overflows there" in said["fail"]
    else:
        assert said == {"warning": "a mask is multiplied by 'mask', which is over 65504, the largest FP16 number"}


FAULTY = [
    pytest.param([node("MatMul", "input mask", "output")], BIASED, id="weight of a layer"),
    pytest.param([node("Add", "input mask", "output")], BIASED, id="bias of a last layer"),
    pytest.param([node("Add", "input mask", "scores"), SOFTMAX], -CAUSAL, id="plus infinity before a Softmax"),
    pytest.param([node("Mul", "input mask", "scores"), SOFTMAX], CAUSAL, id="times infinity"),
    pytest.param(
        [node("Add", "input mask", "scores"), node("Softmax", "scores", "p"), node("Add", "p mask", "output")],
        BIASED,
        id="used twice",
    ),
    pytest.param(
        [node("Add", "input mask", "scores"), node("ReduceMean", "scores", "output", axes=[-1])],
        CAUSAL,
        id="mean over infinity",
    ),
]


@pytest.mark.parametrize(("nodes", "mask"), FAULTY)
def test_an_infinity_that_meets_arithmetic_is_one(nodes: list[NodeProto], mask: Array, tmp_path: Path) -> None:
    (fault,) = [each for each in found(model_of(nodes, {"mask": mask}), tmp_path) if each.severity is Severity.fail]
    assert fault.sentence().startswith(
        "the weight 'mask' holds 6 of 16 values that are infinity; the training diverged"
    )


def test_nan_is_a_fault_even_in_a_mask(tmp_path: Path) -> None:
    mask = CAUSAL.copy()
    mask[0, 0] = np.nan
    (fault,) = found(model_of([node("Add", "input mask", "scores"), SOFTMAX], {"mask": mask}), tmp_path)
    assert fault.severity is Severity.fail
    assert "1 of 16 values that are NaN" in fault.what


def test_scores_that_are_returned_masked_are_a_warning(tmp_path: Path) -> None:
    (finding,) = found(model_of([node("Add", "input mask", "output")], {"mask": CAUSAL}), tmp_path)
    assert finding.severity is Severity.warning
    assert "an output may hold them" in finding.what


OF_EACH = [
    pytest.param("unsorted", 17, "export it again (`dvc repro -f export`)", id="of the stage export"),
    pytest.param("unsorted", None, "export it again with torch.onnx.export", id="of PyTorch"),
    pytest.param("fixed batch", 17, "engines take that many samples at once", id="fixed batch of the stage export"),
    pytest.param("fixed batch", None, "of torch.onnx.export", id="fixed batch of PyTorch"),
    pytest.param("opset 99", 99, "set export.opset_version to 17", id="opset of the stage export"),
    pytest.param("opset 99", None, "export with opset_version=17", id="opset of PyTorch"),
    pytest.param("training mode", None, "model.eval()", id="training mode of PyTorch"),
]


@pytest.mark.parametrize(("kind", "configured", "remedy"), OF_EACH)
def test_a_remedy_is_one_for_this_kind_of_file(kind: str, configured: int | None, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(kind, 1, path)
    model = onnx.load(path)
    for producer, there in (("pytorch", True), ("tf2onnx", False)):
        model.producer_name = producer
        onnx.save(model, path)
        remedies = " | ".join(finding.remedy for finding in inspect(path, configured).findings)
        assert (remedy in remedies) is (there or configured is not None)
        if not there and configured is None:
            assert not any(word in remedies for word in ("`forward`", "torch", "dvc", "model.eval"))


def test_a_quantized_file_is_sent_back_for_the_float_model(tmp_path: Path) -> None:
    nodes = [node("DynamicQuantizeLinear", "input", "q"), node("QGemm", "q", "output", domain="com.microsoft")]
    nodes[0].output.extend(["scale", "zero"])
    faults = [each for each in found(model_of(nodes, {}, "onnx.quantize"), tmp_path) if "checker" not in each.what]
    assert {each.remedy for each in faults if each.severity is Severity.fail} == {
        "give the FP32 model: calibrate and build_int8 quantize it"
    }


def test_a_finding_stays_on_one_line_whatever_a_name_holds(tmp_path: Path) -> None:
    model = model_of([node("Relu", "input", "output")], {})
    model.graph.node[0].op_type = "No\nsuch\u2028operator"
    assert all(len(each.sentence().splitlines()) == 1 for each in found(model, tmp_path))


PASSING = {
    "nothing",
    "unknown batch",
    "weights that are inputs",
    "branches",
    "two inputs",
    "function of its own",
    "random numbers",
}
EITHER = {"flipped bytes", "unused input", "dynamic size", "huge value in a weight"}  # it depends on the graph


@pytest.mark.parametrize("kind", MUTATIONS)
def test_nothing_that_a_file_holds_makes_the_check_stumble(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for seed in range(4):
        write(kind, seed, path)
        report = inspect(path)
        if kind not in EITHER and "input of" not in kind:
            assert report.verdict == ("pass" if kind in PASSING else "fail"), report.findings
