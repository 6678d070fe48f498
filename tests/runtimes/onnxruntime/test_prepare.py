"""What simplifying a model does to layers is done to what is known of them by name: bias corrections and the choice to
stay in float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.builder import in_precision
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.prepare import prepared
from enginewright.runtimes.onnxruntime.session import open_session
from enginewright.runtimes.onnxruntime.simplify import simplified
from support.operator_net import RELU, Net
from support.reference import simulated, sqnr_db

MINMAX = Calibration(algorithm=CalibrationAlgorithm.minmax)


@pytest.mark.parametrize("factor", [0.02, 30.0, (0.05, -2.0, 1.0, 7.0)], ids=["small", "large", "one a channel"])
def test_a_factor_behind_a_layer_is_taken_to_its_bias_correction(
    factor: float | tuple[float, ...], tmp_path: Path
) -> None:
    net, path = Net(seed=1), tmp_path / "model.onnx"
    layer = net.node(
        "Conv",
        [
            net.source(RELU, 4, 6, 8),
            net.constant(net.normal(4, 4, 3, 3) + np.float32(0.2)),
            net.constant(net.normal(4)),
        ],
    )
    scaled = net.node("Mul", [layer, net.constant(np.broadcast_to(np.array(factor, np.float32), 4).reshape(4, 1, 1))])
    net.read(net.node("Relu", [scaled]))
    model, feeds = net.model(), net.feeds()
    onnx.save(model, path)
    plain = QuantizationRecipe(calibrate(path, [feeds], MINMAX))
    correction = measure_bias_correction(path, [feeds])
    recipe = replace(plain, bias_correction=correction)
    ready, found = prepared(model, recipe)
    (name,) = (node.name for node in net.nodes if layer in node.output)
    assert "Mul" not in {node.op_type for node in ready.graph.node}
    assert found.bias_correction is not None
    np.testing.assert_allclose(
        found.bias_correction.layers[name], correction.layers[name] * np.array(factor, np.float32), rtol=1e-3, atol=1e-6
    )
    (output,) = (value.name for value in model.graph.output)
    exact = simulated(model, feeds)[output]

    def judged(corrects: bool) -> float:
        quantized, _ = in_precision(path, model, Precision.int8, recipe if corrects else plain)
        return sqnr_db(exact, open_session(quantized.SerializeToString()).run([output], feeds)[0])

    assert judged(corrects=True) > judged(corrects=False) - 1


def bias_behind(net: Net, source: str) -> str:
    """MatMul, Add."""
    return net.node("Add", [net.node("MatMul", [source, net.constant(net.normal(12, 8))]), net.constant(net.normal(8))])


def sum_behind(net: Net, source: str) -> str:
    """Gemm, Sum."""
    return net.node("Sum", [net.node("Gemm", [source, net.constant(net.normal(12, 8))]), net.constant(net.normal(8))])


def normalized(net: Net, source: str) -> str:
    """MatMul, BatchNormalization."""
    made = net.node("MatMul", [source, net.constant(net.normal(12, 8))])
    return net.node(
        "BatchNormalization", [made, *(net.constant(np.abs(net.normal(8)) + np.float32(0.1)) for _ in range(4))]
    )


@pytest.mark.parametrize("add", [bias_behind, sum_behind, normalized])
def test_a_layer_that_takes_up_what_stands_behind_it_keeps_its_name(
    add: Callable[[Net, str], str], tmp_path: Path
) -> None:
    net, path = Net(seed=2), tmp_path / "model.onnx"
    source = net.node("Flatten", [net.source(RELU, 12, 1)])
    add(net, source)
    model, feeds = net.model(), net.feeds()
    onnx.save(model, path)
    (layer,) = (node.name for node in net.nodes if node.op_type in ("MatMul", "Gemm"))
    assert layer in {node.name for node in simplified(model).graph.node}
    recipe = QuantizationRecipe(calibrate(path, [feeds], MINMAX), measure_bias_correction(path, [feeds]))
    every = RUNTIME.build(path, BuildJob(Precision.int8, Build(), recipe))
    kept = RUNTIME.build(path, BuildJob(Precision.int8_mixed, Build(), recipe, [layer]))
    assert (every.quantized, kept.quantized) == (2, 1)
