"""ONNX models to engines of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, Precision
from enginewright.errors import CalibrationMismatch, ModelError
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from support.networks import images, residual_network
from support.onnx_engines import SETTINGS, build

PRECISIONS = pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.name)


@PRECISIONS
def test_a_build_is_byte_identical_twice(model: Path, precision: Precision) -> None:
    assert build(model, precision).engine_bytes == build(model, precision).engine_bytes


def test_every_layer_really_runs_in_int8(model: Path) -> None:
    built = build(model, Precision.int8)
    assert (built.quantized, built.quantizable, dict(built.layers), list(built.warnings)) == (5, 5, {"INT8": 5}, [])


def test_a_float_fallback_is_named(model: Path) -> None:
    network = onnx.load(model)
    network.graph.node.append(onnx.helper.make_node("MatMul", ["pool", "pool"], ["square"], name="Square"))
    network.graph.node.append(onnx.helper.make_node("Erf", ["square"], ["odd"]))
    network.graph.output.append(onnx.helper.make_tensor_value_info("odd", onnx.TensorProto.FLOAT, ["N", 8, 6, 6]))
    next(node for node in network.graph.node if node.name == "Conv_3").input[1] = "computed"
    network.graph.node.insert(0, onnx.helper.make_node("Abs", ["absolute"], ["computed"]))
    network.graph.node.insert(0, onnx.helper.make_node("Mul", ["w3", "one"], ["absolute"]))
    network.graph.input.append(onnx.helper.make_tensor_value_info("one", onnx.TensorProto.FLOAT, [1]))
    onnx.save(network, model)
    batch = {"input": images(), "one": np.ones(1, np.float32)}
    cache = RUNTIME.calibrate(model, [batch], Calibration(algorithm=CalibrationAlgorithm.minmax))
    built = RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, QuantizationRecipe(cache)))
    assert built.quantized < built.quantizable
    assert any("Conv_3" in warning and "runs in float" in warning for warning in built.warnings)


def test_int8_without_scales_says_what_to_run(model: Path) -> None:
    with pytest.raises(CalibrationMismatch, match="needs a calibration cache; run `dvc repro calibrate`"):
        RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, None))


def test_a_cache_of_another_model_is_refused(model: Path) -> None:
    cache = RUNTIME.calibrate(model, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))
    onnx.save(residual_network(prefix="other_"), model)
    with pytest.raises(CalibrationMismatch, match="belongs to another model"):
        RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, QuantizationRecipe(cache)))


def test_a_model_that_cannot_run_is_one_sentence(model: Path) -> None:
    network = onnx.load(model)
    network.graph.node[1].op_type = "Rlu"
    onnx.save(network, model)
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run .*Rlu.*see the report of check_onnx"):
        RUNTIME.build(model, BuildJob(Precision.fp32, SETTINGS, None))


def test_an_old_opset_is_named_as_it_is(here: Path) -> None:
    model = residual_network()
    model.opset_import[0].version = 9
    onnx.save(model, here / "model.onnx")
    cache = CalibrationCache(Header.minmax, {"input": 0.1})
    with pytest.raises(
        ModelError, match=r"has opset 9, and per-channel Q/DQ needs 13; raise export.opset_version, or convert"
    ):
        RUNTIME.build(here / "model.onnx", BuildJob(Precision.int8, SETTINGS, QuantizationRecipe(cache)))


def test_a_conversion_that_fails_is_not_blamed_on_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_weight_alone(network: onnx.ModelProto) -> onnx.ModelProto:
        half = onnx.ModelProto()
        half.CopyFrom(network)
        weight = next(tensor for tensor in half.graph.initializer if tensor.name == "w2")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16), "w2"))
        return half

    monkeypatch.setattr("enginewright.runtimes.onnxruntime.builder.to_fp16", one_weight_alone)
    with pytest.raises(
        ModelError, match=r"runs .*model.onnx in FP32 and refuses its fp16 form.*Conv_2.*build without fp16"
    ) as caught:
        RUNTIME.build(model, BuildJob(Precision.fp16, SETTINGS, None))
    assert "check_onnx" not in str(caught.value)
