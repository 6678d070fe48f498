"""Bias correction and folding for every form of a layer: rows, axes, groups, alpha and beta, and biases of each shape
that ONNX allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright.config import Calibration, CalibrationAlgorithm, Placement
from enginewright.graph.bias import correct_biases
from enginewright.graph.fold import fold_batch_normalization
from enginewright.graph.qdq import insert_qdq
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction

Array = np.ndarray[Any, np.dtype[np.float32]]
CHANNELS = 6


def normal(*shape: int) -> Array:
    return np.random.default_rng([len(shape), *shape]).normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Form:
    """A layer "layer" that reads Relu of the input, and the shapes of the batches that it is fed."""

    operator: str
    weight: tuple[int, ...]
    batches: Sequence[tuple[int, ...]]
    bias: tuple[int, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[onnx.NodeProto] = ()  # between "positive" and "read"
    opset: int = 17

    def model(self, normalizes: bool = False) -> ModelProto:
        """With `normalizes` a BatchNormalization stands behind the layer."""
        weights = {"w": normal(*self.weight) + np.float32(0.2)}
        if self.bias is not None:
            weights["b"] = normal(*self.bias)
        layer = helper.make_node(
            self.operator, ["read" if self.before else "positive", *weights], ["made"], "layer", **self.attributes
        )
        nodes, output = [helper.make_node("Relu", ["input"], ["positive"]), *self.before, layer], "made"
        if self.before:
            weights["rows"] = np.array([-1, self.weight[0]], np.int64)
        if normalizes:
            weights |= {
                name: np.abs(normal(CHANNELS, index + 1)[:, 0]) + np.float32(0.1)
                for index, name in enumerate(("s", "t", "m", "v"))
            }
            nodes.append(helper.make_node("BatchNormalization", ["made", "s", "t", "m", "v"], ["normal"], "norm"))
            output = "normal"
        axes = [
            size if len({batch[axis] for batch in self.batches}) == 1 else f"axis{axis}"
            for axis, size in enumerate(self.batches[0])
        ]
        graph = helper.make_graph(
            nodes,
            "form",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, axes)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def feeds(self) -> list[dict[str, Array]]:
        """Batches of other means, so that a wrong count shows."""
        return [{"input": normal(*shape) + np.float32(index)} for index, shape in enumerate(self.batches)]


TOKENS = [
    helper.make_node("Transpose", ["positive"], ["last"], perm=[0, 2, 3, 1]),
    helper.make_node("Reshape", ["last", "rows"], ["read"]),
]
ROWS = [(8, 5), (3, 5), (1, 5)]
MAPS = [(2, 4, 6, 6), (1, 4, 6, 6)]
FORMS = {
    "Gemm over tokens": Form("Gemm", (5, CHANNELS), [(2, 5, 3, 3), (3, 5, 3, 3)], (CHANNELS,), before=TOKENS),
    "Gemm over tokens whose number differs": Form(
        "Gemm", (5, CHANNELS), [(2, 5, 3, 3), (3, 5, 1, 7)], (CHANNELS,), before=TOKENS
    ),
    "Gemm": Form("Gemm", (5, CHANNELS), ROWS, (CHANNELS,)),
    "Gemm of opset 18": Form("Gemm", (5, CHANNELS), ROWS, (CHANNELS,), opset=18),
    "Gemm, transB": Form("Gemm", (CHANNELS, 5), ROWS, (CHANNELS,), {"transB": 1}),
    "Gemm, transA": Form("Gemm", (5, CHANNELS), [(5, 8), (5, 3)], (CHANNELS,), {"transA": 1}),
    "Gemm, alpha and beta": Form("Gemm", (5, CHANNELS), ROWS, (CHANNELS,), {"alpha": 0.5, "beta": 3.0}),
    "Gemm, one bias": Form("Gemm", (5, CHANNELS), ROWS, (), {"beta": 2.0}),
    "Gemm, a bias [1]": Form("Gemm", (5, CHANNELS), ROWS, (1,)),
    "Gemm, a bias [1, 1]": Form("Gemm", (5, CHANNELS), ROWS, (1, 1)),
    "Gemm, a bias [1, N]": Form("Gemm", (5, CHANNELS), ROWS, (1, CHANNELS), {"beta": 0.5}),
    "Gemm, a column as long as the channels": Form(
        "Gemm", (5, CHANNELS), [(CHANNELS, 5)] * 2, (CHANNELS, 1), {"beta": 0.5}
    ),
    "Gemm, another column": Form("Gemm", (5, CHANNELS), [(4, 5)] * 2, (4, 1)),
    "Gemm, a matrix of biases": Form("Gemm", (5, CHANNELS), [(4, 5)] * 2, (4, CHANNELS), {"beta": 3.0}),
    "Gemm, no bias and a beta": Form("Gemm", (5, CHANNELS), ROWS, None, {"beta": 3.0, "alpha": 2.0}),
    "Conv 1-D": Form("Conv", (CHANNELS, 4, 3), [(2, 4, 9), (3, 4, 9)], (CHANNELS,)),
    "Conv 2-D": Form("Conv", (CHANNELS, 4, 3, 3), MAPS, (CHANNELS,), {"strides": [2, 1], "pads": [0, 1, 2, 1]}),
    "Conv 3-D": Form("Conv", (CHANNELS, 4, 2, 3, 1), [(2, 4, 3, 4, 5), (1, 4, 3, 4, 5)], None),
    "Conv in groups": Form("Conv", (CHANNELS, 2, 3, 3), MAPS, (CHANNELS,), {"group": 2}),
    "Conv over maps of other sizes": Form("Conv", (CHANNELS, 4, 3, 3), [(2, 4, 6, 6), (2, 4, 9, 4)], (CHANNELS,)),
    "ConvTranspose": Form("ConvTranspose", (4, CHANNELS, 3, 3), MAPS, (CHANNELS,), {"strides": [2, 2]}),
    "ConvTranspose in groups": Form("ConvTranspose", (4, CHANNELS // 2, 2, 2), MAPS, None, {"group": 2}),
    "ConvTranspose 1-D": Form(
        "ConvTranspose", (4, CHANNELS, 3), [(2, 4, 9), (3, 4, 9)], (CHANNELS,), {"dilations": [2]}
    ),
}


def run(model: ModelProto, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
    """As the graph says it, with nothing fused on the way."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(session.run(None, dict(feed))[0], np.float32) for feed in feeds]


def means(model: ModelProto, feeds: Sequence[Mapping[str, Array]]) -> Array:
    """Of each channel, over every row and position of every batch."""
    channels = [np.moveaxis(output, 1, -1).reshape(-1, output.shape[1]) for output in run(model, feeds)]
    return np.asarray(np.concatenate(channels).mean(axis=0, dtype=np.float64), np.float32)


@pytest.mark.parametrize("name", FORMS)
def test_the_mean_over_all_rows_is_that_of_the_float_layer_again(name: str, tmp_path: Path) -> None:
    form, path = FORMS[name], tmp_path / "model.onnx"
    model, feeds = form.model(), form.feeds()
    onnx.save(model, path)
    scales = calibrate(path, feeds, Calibration(algorithm=CalibrationAlgorithm.minmax))
    correction = measure_bias_correction(path, feeds).layers

    def quantized(corrects: bool) -> Array:
        lowered = correct_biases(model, correction if corrects else {})
        found = insert_qdq(lowered, scales.scales, Placement.tensorrt)
        layer = next(node for node in found.graph.node if node.name == "layer")
        layer.input[0] = layer.input[0].removesuffix("_dequantized")  # the weights alone are rounded
        return means(found, feeds)

    exact = means(model, feeds)
    size = float(np.abs(exact).max())
    assert np.abs(quantized(corrects=False) - exact).max() > 1e-4 * size
    np.testing.assert_allclose(quantized(corrects=True), exact, rtol=0, atol=3e-6 * size)


@pytest.mark.parametrize("name", FORMS)
def test_a_batch_normalization_behind_it_is_folded_or_stays_and_the_function_is_the_same(name: str) -> None:
    model, feeds = FORMS[name].model(normalizes=True), FORMS[name].feeds()
    folded = fold_batch_normalization(model)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    for reference, found in zip(run(model, feeds), run(folded, feeds)):
        np.testing.assert_allclose(found, reference, rtol=0, atol=2e-6 * float(np.abs(reference).max()))


def test_layers_that_share_weights_and_biases_get_biases_of_their_own(tmp_path: Path) -> None:
    model, path = FORMS["Conv 2-D"].model(), tmp_path / "model.onnx"
    twin = helper.make_node("Conv", ["input", "w", "b"], ["other"], "twin", pads=[1, 1, 1, 1])
    model.graph.node.append(twin)
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    onnx.save(model, path)
    correction = measure_bias_correction(path, FORMS["Conv 2-D"].feeds()).layers
    assert set(correction) == {"layer", "twin"}
    assert not np.allclose(correction["layer"], correction["twin"])
    found = correct_biases(model, correction, ["twin"])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    biases = {node.name: stored[node.input[2]] for node in found.graph.node if node.op_type == "Conv"}
    np.testing.assert_allclose(biases["layer"], normal(CHANNELS) - correction["layer"], rtol=1e-6)
    np.testing.assert_array_equal(biases["twin"], normal(CHANNELS))
