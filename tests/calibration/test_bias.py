"""Bias correction: the mean of what an INT8 layer gives is that of the float layer again, and layers that stay in float
keep their biases.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from runtimes.tensorrt.stand_in import Record, stand_in

from enginewright.calibration import bias
from enginewright.calibration.cache import CalibrationCache
from enginewright.config import Calibration, CalibrationAlgorithm, Placement, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch
from enginewright.graph.fold import fold_batch_normalization
from enginewright.graph.qdq import insert_qdq
from enginewright.runtimes.onnxruntime.calibrator import bias_shifts, calibrate
from enginewright.runtimes.tensorrt.build_plan import make_plan
from support.networks import images, residual_network

Array = np.ndarray[Any, np.dtype[np.float32]]
CHANNELS = 4


def depthwise(bias_input: bool = True, normalized: bool = False) -> ModelProto:
    """relu - depthwise convolution with stride 2 - flatten - Gemm with a beta: what is read is positive, so rounding
    errors do not cancel out.
    """
    random = np.random.default_rng(5)
    weights = {
        "w": random.normal(size=(CHANNELS, 1, 3, 3)).astype(np.float32),
        "g": random.normal(size=(CHANNELS * 9, 5)).astype(np.float32),
        "c": random.normal(size=(5,)).astype(np.float32),
        **({"b": random.normal(size=CHANNELS).astype(np.float32)} if bias_input else {}),
        **(
            {
                name: random.uniform(0.5, 2, CHANNELS).astype(np.float32)
                for name in ("scale", "shift", "mean", "variance")
            }
            if normalized
            else {}
        ),
    }
    norm = (
        [helper.make_node("BatchNormalization", ["conv", "scale", "shift", "mean", "variance"], ["normal"], "norm")]
        if normalized
        else []
    )
    nodes = [
        helper.make_node("Relu", ["input"], ["positive"], "act"),
        helper.make_node(
            "Conv",
            ["positive", "w", "b"] if bias_input else ["positive", "w"],
            ["conv"],
            "conv",
            group=CHANNELS,
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        ),
        *norm,
        helper.make_node("Flatten", ["normal" if normalized else "conv"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "g", "c"], ["logits"], "gemm", beta=0.5),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", CHANNELS, 6, 6])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])]
    graph = helper.make_graph(
        nodes, "depthwise", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def feeds() -> dict[str, Array]:
    return {"input": np.random.default_rng(6).normal(size=(64, CHANNELS, 6, 6)).astype(np.float32)}


def measured(model: ModelProto, folder: Path) -> CalibrationCache:
    """Its scales and its correction, from `feeds`."""
    path = folder / "measured.onnx"
    onnx.save(model, path)
    scales = calibrate(path, [feeds()], Calibration(algorithm=CalibrationAlgorithm.minmax))
    return replace(scales, shifts=bias_shifts(path, [feeds()]))


def means(model: ModelProto, tensor: str) -> Array:
    """Of each channel, over `feeds`; without ONNX Runtime's optimizations, which make a Gemm with INT8 weights one that
    rounds what it reads too.
    """
    import onnxruntime

    exposed, options = ModelProto(), onnxruntime.SessionOptions()
    exposed.CopyFrom(model)
    if tensor not in {output.name for output in model.graph.output}:
        exposed.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (values,) = onnxruntime.InferenceSession(exposed.SerializeToString(), options).run([tensor], feeds())
    return np.asarray(values.mean(axis=(0, *range(2, values.ndim))), np.float32)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(depthwise(), id="bias"),
        pytest.param(depthwise(bias_input=False), id="no bias yet"),
        pytest.param(depthwise(normalized=True), id="BatchNormalization folded first"),
    ],
)
@pytest.mark.parametrize(("layer", "other"), [("conv", "gemm"), ("gemm", "conv")])
def test_the_mean_of_an_int8_layer_is_that_of_the_float_layer_again(
    model: ModelProto, tmp_path: Path, layer: str, other: str
) -> None:
    cache = measured(model, tmp_path)
    source, tensor = {
        "conv": ("positive", "normal" if len(model.graph.node) > 4 else "conv"),
        "gemm": ("flat", "logits"),
    }[layer]
    exact = means(model, tensor)

    def error(corrects: bool) -> float:
        quantized = insert_qdq(
            model, replace(cache, shifts=cache.shifts if corrects else {}), Placement.tensorrt, [other]
        )
        reader = next(node for node in quantized.graph.node if node.name == layer)
        assert reader.input[0] == f"{source}_dequantized"
        # weights alone are rounded here: of the rounding of what is read the correction knows nothing
        reader.input[0] = source
        return float(np.abs(means(quantized, tensor) - exact).max())

    assert error(corrects=False) > 1e-3
    assert error(corrects=True) < 1e-5


def test_layers_that_stay_in_float_keep_their_biases(tmp_path: Path) -> None:
    model = depthwise()
    cache = measured(model, tmp_path)
    assert set(cache.shifts) == {"conv", "gemm"}
    kept = bias.corrected(model, cache.shifts, ["conv", "gemm"])
    assert kept.SerializeToString(deterministic=True) == fold_batch_normalization(model).SerializeToString(
        deterministic=True
    )
    one = bias.corrected(model, cache.shifts, ["conv"])
    assert np.array_equal(means(one, "conv"), means(model, "conv"))
    assert np.allclose(means(one, "logits"), means(model, "logits") - cache.shifts["gemm"], atol=1e-5)


def test_the_shifts_are_those_of_the_images_and_of_no_scale(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(residual_network(), path)
    batches = [images(8, seed) for seed in range(3)]
    together = bias_shifts(path, [{"input": np.concatenate(batches)}])
    apart = bias_shifts(path, [{"input": batch} for batch in batches])
    assert list(together) == ["Conv_0", "Conv_1", "Conv_2", "Conv_3", "Gemm_0"]
    for name, shift in together.items():
        assert np.allclose(shift, apart[name], atol=1e-6)
        assert np.abs(shift).max() > 0


def test_without_an_image_there_is_nothing_to_measure(tmp_path: Path) -> None:
    onnx.save(residual_network(), tmp_path / "model.onnx")
    with pytest.raises(CalibrationMismatch, match=r"set data\.calibration_images"):
        bias_shifts(tmp_path / "model.onnx", [])


def test_every_number_comes_back_from_the_file(tmp_path: Path) -> None:
    shifts = {
        "/a/Conv": np.random.default_rng(0).normal(size=100).astype(np.float32),
        "b": np.array([1e-30, 0.1, -3e8], np.float32),
    }
    path = tmp_path / bias.FILE
    path.write_text(bias.to_text(shifts))
    read = bias.read(path)
    assert {name: shift.tobytes() for name, shift in read.items()} == {
        name: shift.tobytes() for name, shift in shifts.items()
    }
    assert bias.read(tmp_path / "absent.json") == {}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param("{", "is no bias correction", id="cut"),
        pytest.param("[1]", "is no bias correction", id="a list"),
        pytest.param('{"a": ["x"]}', "is no bias correction", id="words"),
        pytest.param('{"a": [NaN]}', "no list of finite numbers for 'a'", id="nan"),
        pytest.param('{"a": 1}', "no list of finite numbers for 'a'", id="a number"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / bias.FILE
    path.write_text(content)
    with pytest.raises(CalibrationMismatch, match=text) as refused:
        bias.read(path)
    assert "run `dvc repro calibrate`" in str(refused.value)


def test_a_correction_of_another_model_is_refused() -> None:
    model = depthwise()
    with pytest.raises(CalibrationMismatch, match=r"a layer 'cnv' that the model does not have.*'conv'"):
        bias.corrected(model, {"cnv": np.zeros(CHANNELS, np.float32)})
    with pytest.raises(CalibrationMismatch, match="has 3 channels for 'conv', which has 4"):
        bias.corrected(model, {"conv": np.zeros(3, np.float32)})


@pytest.mark.parametrize(("mode", "version"), [(PrecisionMode.implicit, "8.6.0"), (PrecisionMode.explicit, "11.4.0")])
def test_tensorrt_is_given_the_corrected_biases(tmp_path: Path, mode: PrecisionMode, version: str) -> None:
    model, path = depthwise(), tmp_path / "model.onnx"
    onnx.save(model, path)
    cache = measured(model, tmp_path)

    def biases(precision: Precision, floats: Collection[str] = ()) -> dict[str, Array]:
        given = make_plan(stand_in(version, Record()), path, precision, mode, cache, floats).model
        values = {initializer.name: numpy_helper.to_array(initializer) for initializer in given.graph.initializer}
        return {
            node.name: values[node.input[2]].astype(np.float32)
            for node in given.graph.node
            if node.name in ("conv", "gemm")
        }

    exact = biases(Precision.fp32)
    mixed = biases(Precision.int8_mixed, ["gemm"])
    tolerance = (
        1e-6 if mode is PrecisionMode.implicit else 1e-3
    )  # the explicit mixture is in FP16 but for its Q/DQ nodes
    assert (
        np.abs(exact["conv"] - cache.shifts["conv"] - mixed["conv"]).max()
        < tolerance
        < np.abs(cache.shifts["conv"]).max()
    )
    assert np.abs(exact["gemm"] - mixed["gemm"]).max() < tolerance
