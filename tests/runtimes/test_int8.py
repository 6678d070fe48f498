"""What an INT8 build says of itself: shares of layers and multiplications, the refusal at none, findings below half or
where it is unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Precision
from enginewright.errors import ModelError
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.int8 import FLOAT, INT8, UNKNOWN, findings, int8_share, refusal

WORK: dict[str, Optional[int]] = {"a": 100, "b": 300, "c": 600}


def test_shares_of_layers_and_of_multiplications() -> None:
    share = int8_share({"a": INT8, "b": FLOAT, "c": UNKNOWN}, WORK)
    assert share.to_dict() == {
        "layers": {"int8": 1, "float": 1, "unknown": 1},
        "multiplications": {"int8": 0.1, "float": 0.3, "unknown": 0.6},
    }
    assert share.of(INT8) == "1 of 3 layers (33%, and 10.0% of the multiplications)"


def test_layers_that_were_to_stay_in_float_do_not_count() -> None:
    share = int8_share({"a": INT8, "b": FLOAT, "c": FLOAT}, WORK, ["b", "c"])
    assert share.to_dict() == {
        "layers": {"int8": 1, "float": 0, "unknown": 0},
        "multiplications": {"int8": 1.0, "float": 0.0, "unknown": 0.0},
    }
    assert findings(share, "try") == []


def test_unknown_shapes_leave_the_work_out() -> None:
    share = int8_share({"a": INT8, "b": FLOAT}, {"a": 100, "b": None})
    assert share.multiplications == {}
    assert share.of(FLOAT) == "1 of 2 layers (50%)"


@pytest.mark.parametrize(
    ("ran", "none"),
    [({"a": FLOAT}, True), ({"a": INT8, "b": FLOAT}, False), ({"a": UNKNOWN, "b": FLOAT}, False), ({}, False)],
    ids=["float alone", "one in INT8", "one unknown", "INT8 was asked for nothing"],
)
def test_none(ran: dict[str, str], none: bool) -> None:
    assert int8_share(ran, WORK).none is none


@pytest.mark.parametrize(
    ("ran", "begins"),
    [
        ({"a": INT8, "b": INT8, "c": INT8}, None),
        (
            {"a": FLOAT, "b": FLOAT, "c": INT8},
            "less than half runs in INT8: 1 of 3 layers (33%, and 60.0% of the multiplications); try this",
        ),
        (
            {"a": INT8, "b": INT8, "c": FLOAT},
            "less than half runs in INT8: 2 of 3 layers (67%, and 40.0% of the multiplications); try this",
        ),
        (
            {"a": INT8, "b": INT8, "c": UNKNOWN},
            "it is unknown in which precision 1 of 3 layers (33%, and 60.0% of the multiplications) run",
        ),
    ],
    ids=["all", "few layers", "little work", "unknown"],
)
def test_findings(ran: dict[str, str], begins: Optional[str]) -> None:
    found = findings(int8_share(ran, WORK), "try this", ["{ForeignNode[c...c]}"])
    assert len(found) == (begins is not None)
    assert begins is None or found[0].startswith(begins)


def test_the_refusal_says_what_to_try() -> None:
    said = refusal(int8_share({"a": FLOAT}, WORK), "TensorRT 8.6.0", "set build.precision_mode=explicit")
    assert (
        said == "INT8 was asked for and none of the 1 layers runs in it: the engine that TensorRT 8.6.0 made is a float"
        " engine; set build.precision_mode=explicit"
    )


def _conv(weight_is_computed: bool) -> onnx.ModelProto:
    """A Conv with a stored weight, or with one that the graph computes."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 4, 4]) for name in ("x", "y")]
    nodes = [
        helper.make_node(
            "Conv", ["x", "scaled" if weight_is_computed else "w"], ["y"], name="conv", kernel_shape=[1, 1]
        )
    ]
    weights = [numpy_helper.from_array(np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32), "w")]
    if weight_is_computed:
        nodes.insert(0, helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0, name="largest"))
        nodes.insert(1, helper.make_node("Mul", ["w", "largest"], ["scaled"], name="scale"))
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnx_runtime_refuses_an_int8_engine_in_which_nothing_is(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from enginewright.runtimes.onnxruntime import RUNTIME

    cache = CalibrationCache(Header.minmax, dict.fromkeys(("x", "y", "scaled", "largest"), 0.02))
    path = tmp_path / "model.onnx"
    onnx.save(_conv(False), path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache), axes=batches(1, 2, 4)))
    assert built.int8 == {
        "layers": {"int8": 1, "float": 0, "unknown": 0},
        "multiplications": {"int8": 1.0, "float": 0.0, "unknown": 0.0},
    }
    assert built.findings == []
    onnx.save(_conv(True), path)
    with pytest.raises(
        ModelError,
        match=r"none of the 1 layers runs in it: .*; layers were left in float \(its weight is computed in the graph",
    ):
        RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache), axes=batches(1, 2, 4)))


def test_a_mixture_that_leaves_every_layer_in_float_was_not_asked_for_int8(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from enginewright.runtimes.onnxruntime import RUNTIME

    onnx.save(_conv(False), tmp_path / "model.onnx")
    cache = CalibrationCache(Header.minmax, {"x": 0.02, "y": 0.02})
    built = RUNTIME.build(
        tmp_path / "model.onnx",
        BuildJob(Precision.int8_mixed, Build(), QuantizationRecipe(cache), ["conv"], axes=batches(1, 2, 4)),
    )
    assert (built.quantized, built.findings) == (0, [])


def test_tensorrt_rtx_is_counted_by_its_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; `make rtx` installs it")
    from enginewright.runtimes.tensorrt_rtx import RUNTIME

    path, cache = (
        tmp_path / "model.onnx",
        CalibrationCache(Header.minmax, dict.fromkeys(("x", "y", "scaled", "largest"), 0.02)),
    )
    onnx.save(_conv(False), path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache), axes=batches(1, 2, 4)))
    assert built.int8["layers"] == {"int8": 1, "float": 0, "unknown": 0}
    onnx.save(_conv(True), path)
    with pytest.raises(ModelError, match="none of the 1 layers runs in it"):
        RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache), axes=batches(1, 2, 4)))
