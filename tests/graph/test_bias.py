"""Bias correction: the mean of what an INT8 layer gives is that of the float layer again, and layers that stay in float
keep their biases.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch
from enginewright.graph.bias import correct_biases
from enginewright.graph.fold import fold_batch_normalization
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.tensorrt.build_plan import make_plan, read_source
from support.networks import images, residual_network
from support.tensorrt_stand_in.builder import Record, stand_in

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


def measured(model: ModelProto, folder: Path) -> tuple[QuantizationRecipe, Mapping[str, Array]]:
    """Its scales and its correction, from `feeds`."""
    path = folder / "measured.onnx"
    onnx.save(model, path)
    scales = calibrate(path, [feeds()], Calibration(algorithm=CalibrationAlgorithm.minmax))
    correction = measure_bias_correction(path, [feeds()])
    return QuantizationRecipe(scales, correction), correction.layers


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
    recipe, _ = measured(model, tmp_path)
    source, tensor = {
        "conv": ("positive", "normal" if len(model.graph.node) > 4 else "conv"),
        "gemm": ("flat", "logits"),
    }[layer]
    exact = means(model, tensor)

    def error(corrects: bool) -> float:
        chosen = recipe if corrects else QuantizationRecipe(recipe.scales)
        quantized = quantize(model, chosen, Placement.tensorrt, [other]).model
        reader = next(node for node in quantized.graph.node if node.name == layer)
        assert reader.input[0] == f"{source}_dequantized"
        # weights alone are rounded here: of the rounding of what is read the correction knows nothing
        reader.input[0] = source
        return float(np.abs(means(quantized, tensor) - exact).max())

    assert error(corrects=False) > 1e-3
    assert error(corrects=True) < 1e-5


def test_layers_that_stay_in_float_keep_their_biases(tmp_path: Path) -> None:
    model = depthwise()
    _, correction = measured(model, tmp_path)
    assert set(correction) == {"conv", "gemm"}
    kept = correct_biases(model, correction, ["conv", "gemm"])
    assert kept.SerializeToString(deterministic=True) == fold_batch_normalization(model).SerializeToString(
        deterministic=True
    )
    one = correct_biases(model, correction, ["conv"])
    assert np.array_equal(means(one, "conv"), means(model, "conv"))
    assert np.allclose(means(one, "logits"), means(model, "logits") - correction["gemm"], atol=1e-5)


def test_the_correction_is_that_of_the_images_and_of_no_scale(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(residual_network(), path)
    batches = [images(8, seed) for seed in range(3)]
    together = measure_bias_correction(path, [{"input": np.concatenate(batches)}]).layers
    apart = measure_bias_correction(path, [{"input": batch} for batch in batches]).layers
    assert list(together) == ["Conv_0", "Conv_1", "Conv_2", "Conv_3", "Gemm_0"]
    for name, values in together.items():
        assert np.allclose(values, apart[name], atol=1e-6)
        assert np.abs(values).max() > 0


def test_without_an_image_there_is_nothing_to_measure(tmp_path: Path) -> None:
    onnx.save(residual_network(), tmp_path / "model.onnx")
    with pytest.raises(CalibrationMismatch, match=r"set data\.calibration_images"):
        measure_bias_correction(tmp_path / "model.onnx", [])


def test_a_correction_of_another_model_is_refused() -> None:
    model = depthwise()
    with pytest.raises(CalibrationMismatch, match=r"a layer 'cnv' that the model does not have.*'conv'"):
        correct_biases(model, {"cnv": np.zeros(CHANNELS, np.float32)})
    with pytest.raises(CalibrationMismatch, match="has 3 channels for 'conv', which has 4"):
        correct_biases(model, {"conv": np.zeros(3, np.float32)})


@pytest.mark.parametrize(("mode", "version"), [(PrecisionMode.implicit, "8.6.0"), (PrecisionMode.explicit, "11.4.0")])
def test_tensorrt_is_given_the_corrected_biases(tmp_path: Path, mode: PrecisionMode, version: str) -> None:
    model, path = depthwise(), tmp_path / "model.onnx"
    onnx.save(model, path)
    recipe, correction = measured(model, tmp_path)

    def biases(precision: Precision, floats: Collection[str] = ()) -> dict[str, Array]:
        job = BuildJob(precision, Build(), recipe, tuple(floats))
        given = make_plan(stand_in(version, Record()), read_source(path), job, mode).model
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
        np.abs(exact["conv"] - correction["conv"] - mixed["conv"]).max() < tolerance < np.abs(correction["conv"]).max()
    )
    assert np.abs(exact["gemm"] - mixed["gemm"]).max() < tolerance
