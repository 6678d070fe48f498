"""What a user reads about an ONNX model that some runtime cannot take."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper
from rich.console import Console

from enginewright.check_onnx import Finding, Report, Severity, inspect
from enginewright.views.check_onnx import show

Array = np.ndarray[Any, np.dtype[Any]]


def model_of(
    nodes: Sequence[NodeProto],
    weights: Mapping[str, Array] | None = None,
    *,
    shape: Sequence[int | str] = ("batch", 1, 8, 8),
    output: Sequence[int | str] = ("batch", 1, 8, 8),
    opset: int = 17,
    domains: Sequence[str] = (),
    dtype: int = TensorProto.FLOAT,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", dtype, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, output)],
        [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="pytorch")


def conv(output: str = "output", *, weight: Array | None = None) -> ModelProto:
    """Conv 1 -> 2, 3 x 3."""
    kernel = np.full((2, 1, 3, 3), 0.5, np.float32) if weight is None else weight
    return model_of(
        [helper.make_node("Conv", ["input", "kernel"], [output], "conv1")],
        {"kernel": kernel},
        output=["batch", 2, 6, 6],
    )


def relu(**interface: Any) -> ModelProto:
    return model_of([helper.make_node("Relu", ["input"], ["output"], "act")], **interface)


def kernel(*values: float) -> Array:
    weight = np.full(18, 0.5, np.float32)
    weight[: len(values)] = values
    return weight.reshape(2, 1, 3, 3)


def one(operator: str, **attributes: Any) -> ModelProto:
    """A model whose middle node is `operator`, before the output."""
    nodes = [
        helper.make_node(operator, ["input"], ["middle"], "odd", **attributes),
        helper.make_node("Identity", ["middle"], ["output"], "last"),
    ]
    return model_of(nodes, domains=[str(attributes["domain"])] if "domain" in attributes else [])


def batch_normalization(*, behind_conv: bool, training: bool = False) -> ModelProto:
    ones = np.ones(2 if behind_conv else 1, np.float32)
    source = "convolved" if behind_conv else "input"
    outputs = ["output", "new_mean", "new_var"] if training else ["output"]
    nodes = [
        helper.make_node(
            "BatchNormalization",
            [source, "scale", "shift", "mean", "var"],
            outputs,
            "norm1",
            training_mode=int(training),
        )
    ]
    if behind_conv:
        nodes.insert(0, helper.make_node("Conv", ["input", "kernel"], ["convolved"], "conv1"))
    output: list[int | str] = ["batch", 2, 6, 6] if behind_conv else ["batch", 1, 8, 8]
    return model_of(nodes, {"kernel": kernel(), "scale": ones, "shift": ones, "mean": ones, "var": ones}, output=output)


def normalized_relu() -> ModelProto:
    nodes = [helper.make_node("Relu", ["input"], ["positive"], "act")]
    nodes.append(helper.make_node("BatchNormalization", ["positive", "one", "one", "one", "one"], ["output"], "norm1"))
    return model_of(nodes, {"one": np.ones(1, np.float32)})


def reshaped(*sizes: int) -> ModelProto:
    nodes = [
        helper.make_node("Reshape", ["input", "sizes"], ["flat"], "view"),
        helper.make_node("Relu", ["flat"], ["output"], "act"),
    ]
    return model_of(nodes, {"sizes": np.array(sizes, np.int64)}, output=["batch", 64])


def with_int64(value: int, operator: str) -> ModelProto:
    numbers = {"big": np.array([value], np.int64), "zero": np.array([0], np.int64), "one": np.array([1], np.int64)}
    if operator == "Slice":
        return model_of([helper.make_node("Slice", ["input", "zero", "big", "one"], ["output"], "tail")], numbers)
    nodes = [
        helper.make_node("Cast", ["big"], ["number"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["input", "number"], ["output"], "scale"),
    ]
    return model_of(nodes, numbers)


def branches() -> ModelProto:
    """An If whose branch holds a node that TensorRT does not support."""
    value = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)

    def branch(operator: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(operator, ["input"], ["result"], "inner")], operator, [], [value])

    node = helper.make_node("If", ["yes"], ["output"], "choice", then_branch=branch("Det"), else_branch=branch("Relu"))
    return model_of([node], {"yes": np.array(True)})


def two_inputs() -> ModelProto:
    model = model_of([helper.make_node("Add", ["input", "second"], ["output"], "sum")])
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["batch", 1, 8, 8]))
    return model


def images_as(dtype: int) -> ModelProto:
    return model_of([helper.make_node("Cast", ["input"], ["output"], "cast", to=TensorProto.FLOAT)], dtype=dtype)


def numbers(values: list[float]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(
        np.array(values, np.int64 if isinstance(values[0], int) else np.float32), "few_values"
    )


def doubles() -> ModelProto:
    """A convolution that computes in float64, between two Casts."""
    nodes = [
        helper.make_node("Cast", ["input"], ["wide"], "widen", to=TensorProto.DOUBLE),
        helper.make_node("Conv", ["wide", "kernel"], ["found"], "conv1"),
        helper.make_node("Cast", ["found"], ["output"], "narrow", to=TensorProto.FLOAT),
    ]
    return model_of(nodes, {"kernel": np.ones((2, 1, 3, 3))}, output=["batch", 2, 6, 6])


def replaced() -> ModelProto:
    """`torch.nan_to_num`, and a convolution behind it."""
    nodes = [
        helper.make_node("IsInf", ["input"], ["endless"], "is_inf"),
        helper.make_node("Greater", ["input", "zero"], ["above"], "is_above"),
        helper.make_node("And", ["endless", "above"], ["positive"], "both"),
        helper.make_node("Where", ["positive", "large", "input"], ["finite"], "choose"),
        helper.make_node("Conv", ["finite", "kernel"], ["output"], "conv1"),
    ]
    stored = {"zero": np.float32(0), "large": np.finfo(np.float32).max, "kernel": kernel()}
    return model_of(nodes, {name: np.asarray(value) for name, value in stored.items()}, output=["batch", 2, 6, 6])


def unshaped() -> ModelProto:
    model = relu()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def quantized() -> ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output"], "dequantize"),
    ]
    return model_of(nodes, {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)})


def inspected(folder: Path, model: ModelProto | bytes, opset_version: int | None = None) -> Report:
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return inspect(path, opset_version)


FAILS = [
    pytest.param(
        lambda: b"", r"model.onnx is no ONNX file \(0 bytes hold no graph\); export it again", id="empty file"
    ),
    pytest.param(lambda: b"%PDF-1.4 not a model at all", "model.onnx is no ONNX file", id="another kind of file"),
    pytest.param(
        lambda: conv().SerializeToString()[:-40],
        r"model.onnx is no ONNX file, or is cut short \(\d+ bytes\)",
        id="truncated file",
    ),
    pytest.param(
        lambda: one("Fancy", domain="my.ops"),
        r"node 'odd' \(my.ops.Fancy\) is an operator of the domain 'my.ops'.*name in model.plugins what brings it .*",
        id="custom operator",
    ),
    pytest.param(
        lambda: one("Gelu", domain="com.microsoft"),
        r"node 'odd' \(com.microsoft.Gelu\).*only ONNX Runtime has it",
        id="ONNX Runtime's own operator",
    ),
    pytest.param(
        lambda: one("EfficientNMS_TRT"),
        r"node 'odd' \(EfficientNMS_TRT\) is no ONNX operator; if it is a TensorRT plugin",
        id="TensorRT plugin",
    ),
    pytest.param(
        lambda: one("Det"),
        r"node 'odd' \(Det\) is not supported by TensorRT; compute the determinant outside",
        id="operator without TensorRT",
    ),
    pytest.param(
        lambda: one("Unique"),
        r"node 'odd' \(Unique\) is not supported by TensorRT; its output's shape depends",
        id="data-dependent shape",
    ),
    pytest.param(
        branches, r"node 'choice/then_branch/inner' \(Det\) is not supported by TensorRT", id="operator inside a branch"
    ),
    pytest.param(
        lambda: one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
        r"node 'odd' \(MaxPool\) has dilations",
        id="dilated pooling",
    ),
    pytest.param(
        quantized,
        r"carries 2 Q/DQ nodes already, the first is node 'quantize' .*give the FP32 model",
        id="quantized already",
    ),
    pytest.param(
        lambda: batch_normalization(behind_conv=True, training=True),
        r"node 'norm1' \(BatchNormalization\) is in training mode; call `model.eval",
        id="training mode",
    ),
    pytest.param(
        lambda: model_of(
            [helper.make_node("Dropout", ["input", "", "yes"], ["output"], "drop")], {"yes": np.array(True)}
        ),
        r"node 'drop' \(Dropout\) is in training mode; call `model.eval",
        id="Dropout in training mode",
    ),
    pytest.param(
        lambda: model_of(
            [
                helper.make_node(
                    "Constant",
                    [],
                    ["few"],
                    "few",
                    sparse_value=helper.make_sparse_tensor(numbers([2.0]), numbers([1]), [8]),
                ),
                helper.make_node("Mul", ["input", "few"], ["output"], "scale"),
            ]
        ),
        r"node 'few' \(Constant\) holds a sparse tensor or strings, which TensorRT does not support; store it dense",
        id="sparse Constant",
    ),
    pytest.param(
        doubles,
        "ONNX Runtime .* cannot run the model: .*Conv.*; replace that operation in `forward`, or cast to float32",
        id="no kernel for float64",
    ),
    pytest.param(
        lambda: model_of(
            [helper.make_node("ScatterND", ["input", "places", "input"], ["output"], "sum", reduction="add")],
            {"places": np.array([[0]])},
        ),
        r"'sum' \(ScatterND\) reduces what it scatters, which TensorRT does not support",
        id="Scatter that adds",
    ),
    pytest.param(
        lambda: conv(weight=kernel(np.nan, 1, np.nan)),
        "the weight 'kernel' holds 2 of 18 values that are NaN",
        id="NaN weight",
    ),
    pytest.param(
        lambda: conv(weight=kernel(np.inf)),
        "the weight 'kernel' holds 1 of 18 values that are infinity",
        id="infinite weight",
    ),
    pytest.param(
        lambda: relu(shape=[2, 1, 8, 8]),
        r"the input 'input' float32 \[2, 1, 8, 8\] has a fixed batch of 2",
        id="fixed batch of the input",
    ),
    pytest.param(
        lambda: reshaped(2, 64),
        r"the output 'output' has a fixed batch of 2 .* baked in at node 'view' \(Reshape\)",
        id="baked batch",
    ),
    pytest.param(
        lambda: relu(shape=["batch", 1, None, None]),
        r"leaves the dynamic axes \[2, 3\] without a name; name them, in model.inputs or where the file is made",
        id="dynamic axes without names",
    ),
    pytest.param(lambda: relu(shape=None), "the input 'input' float32 .* has no shape", id="input without a shape"),
    pytest.param(
        lambda: images_as(TensorProto.UINT16),
        "the input 'input' uint16 .* is of a type that no engine takes; choose one of float32, float16",
        id="words",
    ),
    pytest.param(
        lambda: model_of(
            [helper.make_node("Relu", ["stored"], ["output"], "act")], {"stored": np.ones((1, 1, 8, 8), np.float32)}
        ),
        "the output 'output' does not depend on the input",
        id="unused input",
    ),
    pytest.param(
        lambda: conv(weight=kernel(3e38)),
        "holds 1 of 18 values over 1e\\+30, so that float32 overflows there",
        id="overflow",
    ),
    pytest.param(lambda: relu(opset=12), "opset 12 has no quantization per channel; export at 13", id="opset too old"),
    pytest.param(
        lambda: relu(opset=26),
        r"opset 26 is over what any TensorRT parses \(25\); export with opset_version=17",
        id="opset too new",
    ),
    pytest.param(
        lambda: model_of([helper.make_node("Relu", ["nowhere"], ["output"], "act")]),
        "onnx.checker refuses the model: .*nowhere.*export it again",
        id="invalid graph",
    ),
    pytest.param(
        lambda: model_of(
            [helper.make_node("Conv", ["input", "kernel"], ["output"], "conv1")],
            {"kernel": np.ones((2, 5, 3, 3), np.float32)},
        ),
        "shapes contradict each other: .*Conv",
        id="contradicting shapes",
    ),
]


@pytest.mark.parametrize(("make", "text"), FAILS)
def test_a_fail_names_the_place_and_the_remedy(
    make: Callable[[], ModelProto | bytes], text: str, tmp_path: Path
) -> None:
    report = inspected(tmp_path, make())
    assert report.verdict == "fail"
    with pytest.raises(RuntimeError, match=text):
        raise RuntimeError(
            " | ".join(finding.sentence() for finding in report.findings if finding.severity is Severity.fail)
        )
    assert str(tmp_path) not in json.dumps(report.to_dict()) + report.graph


PASSES = [
    pytest.param(
        lambda: relu(opset=18),
        "warning",
        r"opset 18 is over what TensorRT 8.6 parses \(17\)",
        id="opset of TensorRT 10",
    ),
    pytest.param(
        lambda: batch_normalization(behind_conv=True),
        "note",
        r"'norm1' \(BatchNormalization\) will be folded into 'conv1'",
        id="foldable",
    ),
    pytest.param(
        lambda: batch_normalization(behind_conv=False),
        "warning",
        "'norm1' .* cannot be folded: no layer makes its input",
        id="BatchNorm first",
    ),
    pytest.param(
        normalized_relu,
        "warning",
        r"'norm1' .* folded: its input comes from 'act' \(Relu\), which is no convolution",
        id="BatchNorm of Relu",
    ),
    pytest.param(
        lambda: with_int64(2**40, "Mul"),
        "warning",
        "1 values are beyond INT32, which TensorRT before 10 clamps: 'big' 1",
        id="beyond INT32",
    ),
    pytest.param(lambda: with_int64(5, "Mul"), "note", "3 constants are INT64", id="INT64"),
    pytest.param(
        lambda: conv(weight=kernel(1e5, -2e5)),
        "warning",
        "2 weights are over 65504, .*: 'kernel' 2; the FP16 engine overflows",
        id="FP16 overflow",
    ),
    pytest.param(
        lambda: conv(weight=kernel(1e-5, 2.0**-25, 2.0**-24)),
        "note",
        r"3 weights \(16.67%\) are subnormal in FP16 .*, 1 of them become zero",
        id="FP16 subnormal",
    ),
    pytest.param(
        lambda: one("RandomUniformLike"),
        "warning",
        r"'odd' \(RandomUniformLike\) is restricted in TensorRT: its seed is ignored",
        id="restricted operator",
    ),
    pytest.param(
        replaced,
        "warning",
        "2 weights are over 65504|'large' 1|restricted in TensorRT: TensorRT 8.5 does not have it",
        id="torch.nan_to_num",
    ),
    pytest.param(
        unshaped, "warning", "the output 'output' states no shape, which ONNX asks for", id="output without a shape"
    ),
    pytest.param(
        lambda: one("Hardmax"),
        "warning",
        r"'odd' \(Hardmax\) is restricted .*: TensorRT 8.5 does not have it",
        id="later TensorRT",
    ),
]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(two_inputs, id="two inputs"),
        pytest.param(lambda: relu(shape=["batch", 1, "height", "width"]), id="named axes"),
        pytest.param(lambda: images_as(TensorProto.UINT8), id="bytes"),
        pytest.param(lambda: images_as(TensorProto.INT64), id="integers"),
        pytest.param(lambda: images_as(TensorProto.FLOAT16), id="half precision"),
    ],
)
def test_inputs_of_any_number_type_and_named_axes_pass(make: Callable[[], ModelProto], tmp_path: Path) -> None:
    report = inspected(tmp_path, make())
    assert (report.verdict, report.findings) == ("pass", ())


@pytest.mark.parametrize(("make", "severity", "text"), PASSES)
def test_warnings_and_notes_do_not_stop_a_build(
    make: Callable[[], ModelProto], severity: str, text: str, tmp_path: Path
) -> None:
    report = inspected(tmp_path, make())
    with pytest.raises(RuntimeError, match=text):
        raise RuntimeError(
            " | ".join(finding.sentence() for finding in report.findings if finding.severity.value == severity)
        )
    assert report.verdict == "pass"


def test_a_sound_model_has_no_finding(tmp_path: Path) -> None:
    report = inspected(tmp_path, conv(), 17)
    assert (report.verdict, report.findings) == ("pass", ())
    assert report.to_dict() == {
        "verdict": "pass",
        "findings": [],
        "opset_version": 17,
        "producer": "pytorch",
        "inputs": {"input": "float32 [batch, 1, 8, 8]"},
        "outputs": {"output": "float32 [batch, 2, 6, 6]"},
        "operators": {"Conv": 1},
        "parameters": 18,
        "batch_normalization": [],
    }


def test_metrics_count_what_was_found(tmp_path: Path) -> None:
    report = inspected(tmp_path, batch_normalization(behind_conv=True))
    metrics = report.metrics()
    assert metrics == {
        "verdict": "pass",
        "nodes": 2,
        "operators": 2,
        "parameters": 26,
        "findings": {"fail": 0, "warning": 0, "note": 1},
        "batchnorm": {"total": 1, "foldable": 1, "unfoldable": 0},
    }
    assert report.to_dict()["batch_normalization"] == [{"node": "norm1", "into": "conv1", "why_not": None}]
    assert inspected(tmp_path, batch_normalization(behind_conv=False)).metrics()["batchnorm"] == {
        "total": 1,
        "foldable": 0,
        "unfoldable": 1,
    }


def test_an_opset_that_is_not_the_configured_one_fails(tmp_path: Path) -> None:
    report = inspected(tmp_path, conv(), 18)
    assert "the model is of opset 17 and export.opset_version is 18; run `dvc repro export`" in report.failure()


def test_slicing_to_the_end_is_no_overflow(tmp_path: Path) -> None:
    report = inspected(tmp_path, with_int64(2**63 - 1, "Slice"))
    assert [finding.severity for finding in report.findings] == [Severity.note]


def test_a_local_function_is_no_custom_operator(tmp_path: Path) -> None:
    model = one("Twice", domain="my.functions")
    body = [helper.make_node("Add", ["x", "x"], ["y"])]
    model.functions.append(
        helper.make_function("my.functions", "Twice", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    )
    assert inspected(tmp_path, model).verdict == "pass"


@pytest.mark.parametrize(
    ("present", "text"),
    [
        pytest.param(True, r"1 weights, the first 'kernel', lie outside of model.onnx \(weights.bin\)", id="present"),
        pytest.param(
            False,
            r"lie outside of model.onnx in files that are missing: weights.bin; put them beside model.onnx",
            id="missing",
        ),
    ],
)
def test_external_data_fails(present: bool, text: str, tmp_path: Path) -> None:
    onnx.save_model(
        conv(), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    if not present:
        (tmp_path / "weights.bin").unlink()
    report = inspect(tmp_path / "model.onnx")
    with pytest.raises(RuntimeError, match=text):
        raise RuntimeError(report.failure())


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    assert (
        inspect(tmp_path / "model.onnx").failure()
        == "model.onnx does not exist; export it again (`dvc repro -f export`)"
    )


def test_the_report_is_the_same_in_another_folder(tmp_path: Path) -> None:
    reports = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        reports.append(inspected(tmp_path / name, conv(weight=kernel(np.nan, 1e5, 1e-5))))
    assert json.dumps(reports[0].to_dict()) == json.dumps(reports[1].to_dict())
    assert reports[0].graph == reports[1].graph


def test_the_graph_is_a_table_of_nodes_shapes_and_types(tmp_path: Path) -> None:
    lines = [line.split() for line in inspected(tmp_path, conv()).graph.splitlines()]
    assert ["input", "input", "float32", "[batch,", "1,", "8,", "8]"] in lines
    assert ["Conv", "1"] in lines
    assert ["node", "operator", "output", "dtype", "shape", "parameters"] in lines
    assert ["conv1", "Conv", "output", "float32", "[batch,", "2,", "6,", "6]", "18"] in lines


def test_the_terminal_shows_findings_as_they_are_written() -> None:
    """Square brackets of a shape are no markup."""
    console = Console(file=io.StringIO(), width=160)
    show(Report((Finding(Severity.warning, "the input 'x' [batch] is odd", "fix [it]"),)), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the input 'x' [batch] is odd" in shown
    assert "fix [it]" in shown


def test_a_failure_names_three_findings_and_counts_the_rest() -> None:
    report = Report(tuple(Finding(Severity.fail, f"fault {number}", "mend it") for number in range(5)))
    assert report.failure() == "fault 0; mend it; fault 1; mend it; fault 2; mend it; and 2 more"
