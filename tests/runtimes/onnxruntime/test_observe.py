"""What the tensors of a float model hold, and what saturates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.graph.activations import activations
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.observe import observe, tensor_values
from support.networks import images


def test_observing_counts_what_saturates(network_file: Path) -> None:
    cache = calibrate(network_file, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))
    seen = observe(network_file, [{"input": images()}, {"input": 2 * images()}], cache)
    assert list(seen) == activations(onnx.load(network_file))
    assert seen["input"].count == 2 * images().size
    beyond = np.count_nonzero(np.abs(2 * images()) > 127 * cache.scales["input"])
    assert 0 < seen["input"].saturated <= beyond


def test_a_transposed_tensor_times_a_stored_vector_is_observed_as_it_is() -> None:
    """ONNX Runtime 1.32 fuses the two into what computes as if nothing were transposed (`session.WRONG_FUSIONS`)."""
    vector = numpy_helper.from_array(np.arange(6, dtype=np.float32), "vector")
    nodes = [
        onnx.helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 2, 1]),
        onnx.helper.make_node("MatMul", ["turned", "vector"], ["output"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 6, 6]),
        onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["batch", 6]),
    ]
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "turned", values[:1], values[1:], [vector]), opset_imports=opset, ir_version=8
    )
    fed = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32)
    (found,) = tensor_values(model, ["output"], [{"input": fed}])
    expected = fed.transpose(0, 2, 1) @ np.arange(6, dtype=np.float32)
    np.testing.assert_allclose(found["output"], expected, rtol=1e-5, atol=1e-5)
