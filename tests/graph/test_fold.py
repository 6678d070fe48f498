"""BatchNormalization folded into the layer before it: the function stays, and what cannot be folded is told with its
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.graph.fold import fold_batch_normalization, why_unfoldable
from enginewright.graph.index import Graph
from enginewright.graph.qdq import insert_qdq
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.calibrator import calibrate

Array = np.ndarray[Any, np.dtype[np.float32]]
CHANNELS = 6


def normalized(
    layer: NodeProto, weights: dict[str, Array], shape: Sequence[int], more: Sequence[NodeProto] = ()
) -> ModelProto:
    """`layer` gives "made"; a BatchNormalization with a scale of its own for each channel, one negative and one nearly
    zero, gives "normal".
    """
    random = np.random.default_rng(3)
    parameters = {
        "scale": np.array([1.5, -0.7, 1e-4, 20.0, 0.3, 1.0], np.float32),
        "shift": random.normal(size=CHANNELS).astype(np.float32),
        "mean": random.normal(size=CHANNELS).astype(np.float32),
        "variance": random.uniform(0.01, 4, CHANNELS).astype(np.float32),
    }
    norm = helper.make_node("BatchNormalization", ["made", *parameters], ["normal"], "norm", epsilon=1e-3)
    nodes = [layer, norm, helper.make_node("Relu", ["normal"], ["output"], "act"), *more]
    graph = helper.make_graph(
        nodes,
        "normalized",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *shape])],
        [
            helper.make_tensor_value_info(
                "output", TensorProto.FLOAT, ["N", CHANNELS, *(f"axis{index}" for index in range(1, len(shape)))]
            )
        ],
        [numpy_helper.from_array(value, name) for name, value in {**weights, **parameters}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def random(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def conv(bias: bool = True, **attributes: Any) -> ModelProto:
    inputs = ["input", "w", "b"] if bias else ["input", "w"]
    weights = {
        "w": random(CHANNELS, 4 // attributes.get("group", 1), 3, 3),
        **({"b": random(CHANNELS)} if bias else {}),
    }
    return normalized(helper.make_node("Conv", inputs, ["made"], "layer", **attributes), weights, (4, 8, 8))


def transposed(group: int) -> ModelProto:
    layer = helper.make_node("ConvTranspose", ["input", "w", "b"], ["made"], "layer", group=group, strides=[2, 2])
    return normalized(layer, {"w": random(4, CHANNELS // group, 3, 3), "b": random(CHANNELS)}, (4, 8, 8))


def gemm(bias: Array | None, **attributes: Any) -> ModelProto:
    weight = random(CHANNELS, 5) if attributes.get("transB") else random(5, CHANNELS)
    inputs = ["input", "w"] if bias is None else ["input", "w", "b"]
    return normalized(
        helper.make_node("Gemm", inputs, ["made"], "layer", **attributes),
        {"w": weight, **({} if bias is None else {"b": bias})},
        (5,),
    )


def run(model: ModelProto, feed: Array) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )  # as the graph says it, with nothing folded on the way
    result: Array = onnxruntime.InferenceSession(model.SerializeToString(), options).run(["output"], {"input": feed})[0]
    return result


def feed_of(model: ModelProto) -> Array:
    return random(7, *(axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:]))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(conv(), id="Conv"),
        pytest.param(conv(bias=False, pads=[1, 1, 1, 1]), id="Conv without bias"),
        pytest.param(conv(group=2), id="Conv in groups"),
        pytest.param(transposed(1), id="ConvTranspose"),
        pytest.param(transposed(2), id="ConvTranspose in groups"),
        pytest.param(gemm(random(CHANNELS), transB=1), id="Gemm"),
        pytest.param(gemm(random(1, CHANNELS), alpha=0.5, beta=3.0), id="Gemm with alpha and beta"),
        pytest.param(gemm(np.array(2.0, np.float32)), id="Gemm with one bias for all"),
        pytest.param(gemm(None, transB=1), id="Gemm without bias"),
    ],
)
def test_the_function_is_kept_and_the_node_gone(model: ModelProto) -> None:
    before = model.SerializeToString()
    folded = fold_batch_normalization(model)
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == [model.graph.node[0].op_type, "Relu"]
    assert folded.graph.node[0].output[0] == "normal", "the scale of the normalized tensor must find it"
    feed = feed_of(model)
    reference = run(model, feed)
    np.testing.assert_allclose(run(folded, feed), reference, rtol=1e-5, atol=1e-5 * float(np.abs(reference).max()))
    assert model.SerializeToString() == before


def test_weights_that_another_layer_shares_stay_its_own() -> None:
    model = conv()
    model.graph.node.append(helper.make_node("Conv", ["input", "w", "b"], ["twin"], "twin"))
    model.graph.output.append(helper.make_tensor_value_info("twin", TensorProto.FLOAT, None))
    folded = fold_batch_normalization(model)
    assert next(node for node in folded.graph.node if node.name == "twin").input[1:] == ["w", "b"]
    np.testing.assert_allclose(run(folded, feed_of(model)), run(model, feed_of(model)), rtol=1e-4, atol=1e-4)


def computed(name: str) -> Callable[[ModelProto], None]:
    """Make a stored tensor one that depends on the input."""

    def change(model: ModelProto) -> None:
        model.graph.node.insert(0, helper.make_node("Mul", [f"{name}_stored", "mean_of_input"], [name], f"make_{name}"))
        model.graph.node.insert(0, helper.make_node("ReduceMean", ["input"], ["mean_of_input"], "look", keepdims=0))
        next(tensor for tensor in model.graph.initializer if tensor.name == name).name = f"{name}_stored"

    return change


def test_weights_behind_other_constants_are_folded_too() -> None:
    model = conv()
    for tensor in model.graph.initializer:
        model.graph.node.insert(
            0, helper.make_node("Identity", [f"{tensor.name}_stored"], [tensor.name], f"make_{tensor.name}")
        )
        tensor.name = f"{tensor.name}_stored"
    folded = fold_batch_normalization(model)
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu"]
    np.testing.assert_allclose(run(folded, feed_of(model)), run(model, feed_of(model)), rtol=1e-4, atol=1e-4)


def read_twice(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Sigmoid", ["made"], ["other"], "gate"))


def returned(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("made", TensorProto.FLOAT, None))


def read_in_a_branch(model: ModelProto) -> None:
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Neg", ["made"], ["inner"])], "branch", [], [value])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["chosen"], "choice", then_branch=branch, else_branch=branch)
    )


def behind_a_pool(model: ModelProto) -> None:
    model.graph.node[1].input[0] = "pooled"
    model.graph.node.insert(1, helper.make_node("MaxPool", ["made"], ["pooled"], "pool", kernel_shape=[2, 2]))


def negative_variance(model: ModelProto) -> None:
    variance = next(tensor for tensor in model.graph.initializer if tensor.name == "variance")
    variance.CopyFrom(numpy_helper.from_array(np.full(CHANNELS, -1, np.float32), "variance"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(behind_a_pool, "its input comes from 'pool' (MaxPool), which is no convolution", id="no Conv"),
        pytest.param(read_twice, "the output of 'layer' (Conv) is read by 'gate' too", id="another reader"),
        pytest.param(returned, "the output of 'layer' (Conv) is an output of the model too", id="an output"),
        pytest.param(
            read_in_a_branch, "the output of 'layer' (Conv) is read by a branch or a loop too", id="read in a branch"
        ),
        pytest.param(
            computed("w"), "weights of 'layer' (Conv) are computed in the graph, not stored", id="computed weights"
        ),
        pytest.param(computed("mean"), "its mean is computed in the graph, not stored", id="computed mean"),
        pytest.param(
            negative_variance, "its variance is not positive, or a number of it is no number", id="negative variance"
        ),
    ],
)
def test_what_cannot_be_folded_is_left_with_the_reason(change: Callable[[ModelProto], None], why: str) -> None:
    model = conv()
    change(model)
    graph = Graph(model.graph)
    assert why_unfoldable(graph, next(node for node in graph.nodes if node.name == "norm")) == why
    assert fold_batch_normalization(model) == model


@pytest.mark.parametrize("placement", list(Placement), ids=lambda placement: placement.name)
def test_weights_are_quantized_with_the_scales_of_the_folded_layer(placement: Placement, tmp_path: Path) -> None:
    """Unfolded, every channel would have the scale of its raw weights; folded, it is larger by |scale| /
    sqrt(variance).
    """
    model = conv()
    onnx.save(model, tmp_path / "model.onnx")
    cache = calibrate(
        tmp_path / "model.onnx", [{"input": feed_of(model)}], Calibration(algorithm=CalibrationAlgorithm.minmax)
    )
    quantized = insert_qdq(model, cache.scales, placement)
    onnx.checker.check_model(quantized, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in quantized.graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (scale,) = [value for name, value in constants.items() if name.endswith("int8_scale")]
    factor = np.abs(original["scale"]) / np.sqrt(original["variance"] + 1e-3)
    expected = np.abs(original["w"]).max(axis=(1, 2, 3)) * factor / 127
    large = factor > 0.01  # ONNX Runtime's integer bias asks for a larger scale where the weights nearly vanish
    np.testing.assert_allclose(scale[large], expected[large], rtol=1e-5)
    reference, found = run(model, feed_of(model)), run(quantized, feed_of(model))
    assert 10 * np.log10((reference**2).sum() / ((reference - found) ** 2).sum()) > 30


def test_the_int8_engine_of_onnx_runtime_holds_no_batch_normalization(tmp_path: Path) -> None:
    """Gemm included, which ONNX Runtime's own pre-processing leaves alone."""
    for name, model in {"conv": conv(), "gemm": gemm(random(CHANNELS), transB=1)}.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        cache = calibrate(path, [{"input": feed_of(model)}], Calibration(algorithm=CalibrationAlgorithm.minmax))
        built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
        plan = onnx.load_model_from_string(built.engine_bytes)
        assert "BatchNormalization" not in {node.op_type for node in plan.graph.node}
        assert built.quantized == built.quantizable == 1
        reference, found = run(model, feed_of(model)), run(plan, feed_of(model))
        assert 10 * np.log10((reference**2).sum() / ((reference - found) ** 2).sum()) > 25
