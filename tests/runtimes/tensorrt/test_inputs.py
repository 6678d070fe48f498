"""Engines that take float16 or int8: what the builder is told, and that the answers stay those of the engine that takes
float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from runtimes.tensorrt.networks import resnet

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.config import Build, InputType, Precision, PrecisionMode
from enginewright.errors import ConfigError
from enginewright.feeds import as_input
from enginewright.interface import TensorSpec, batches
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime import RUNTIME as ONNX_RUNTIME
from enginewright.runtimes.tensorrt.build_plan import make_plan, read_source
from enginewright.runtimes.tensorrt.builder import Job, build_engine
from enginewright.runtimes.tensorrt.engine import load_engine
from enginewright.runtimes.tensorrt.inputs import native_inputs
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX
from enginewright.target import TargetFingerprint
from support import cuda_stand_in
from support.calibrated import plain_recipe
from support.tensorrt_stand_in import runtime as tensorrt_runtime
from support.tensorrt_stand_in.builder import Record, stand_in

TARGET = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0")
SCALE = 0.03
NETWORK = resnet((1,), 4, 8, 10)
CACHE = CalibrationCache(
    Header.entropy,
    {tensor: SCALE for node in NETWORK.graph.node for tensor in (*node.input, *node.output)},
)
LINEAR = 1


def native(mode: PrecisionMode = PrecisionMode.auto) -> Build:
    return Build(precision_mode=mode, input_type=InputType.native)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(NETWORK, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("version", "precision", "wanted", "scales"),
    [
        pytest.param("8.6.0", "fp32", ("FLOAT", -1), None, id="8.6 fp32 stays"),
        pytest.param("8.6.0", "fp16", ("HALF", LINEAR), None, id="8.6 fp16"),
        pytest.param("8.6.0", "int8", ("INT8", LINEAR), {"input": SCALE}, id="8.6 int8"),
        pytest.param("11.4.0", "fp16", ("FLOAT16", -1), None, id="11 fp16 in the onnx"),
        pytest.param("11.4.0", "int8", ("INT8", -1), {"input": SCALE}, id="11 int8 in the onnx"),
    ],
)
def test_the_builder_is_told_the_type_and_the_sidecar_the_scale(
    model: Path, version: str, precision: str, wanted: tuple[str, int], scales: dict[str, float]
) -> None:
    record = Record()
    asked = BuildJob(
        Precision[precision], native(), plain_recipe(CACHE if precision == "int8" else None), axes=batches(1, 2, 4)
    )
    built = build_engine(stand_in(version, record), Job(model, asked, TARGET))
    assert record.inputs == {"input": wanted}
    assert built.settings.get("input_scales") == scales


def answers(model: onnx.ModelProto, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )  # node by node, as the ONNX says
    (logits,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"input": batch})
    return np.asarray(logits, np.float32)


def plans(model: Path, precision: Precision) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The explicit model that takes float32, and the one with its native input."""
    trt, cache = stand_in("11.4.0", Record()), CACHE if precision is Precision.int8 else None
    job = BuildJob(precision, Build(), plain_recipe(cache))
    usual = make_plan(trt, read_source(model), job, PrecisionMode.explicit)
    before = usual.model.SerializeToString()
    _, edited = native_inputs(usual, precision, InputType.native, plain_recipe(cache))
    assert usual.model.SerializeToString() == before  # a plan is frozen, its model too
    onnx.checker.check_model(edited.model, full_check=True)
    return usual.model, edited.model


def test_int8_images_give_the_very_answers_of_float32_images(model: Path) -> None:
    usual, edited = plans(model, Precision.int8)
    images = (
        np.random.default_rng(0).normal(0, 1.5, (3, 3, 8, 8)).astype(np.float32)
    )  # beyond +-127 * 0.03 some are clipped
    integers = as_input(images, TensorSpec("input", np.dtype(np.int8), ("batch", 3, 8, 8), SCALE))
    assert integers.dtype == np.int8
    assert integers.min() == -128
    np.testing.assert_array_equal(answers(edited, integers), answers(usual, images))


def test_an_input_that_a_float_node_reads_too_is_dequantized_for_it(model: Path, tmp_path: Path) -> None:
    changed = onnx.load(model)
    stem = next(node for node in changed.graph.node if node.input[0] == "input")
    channels = changed.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    changed.graph.node.append(onnx.helper.make_node("GlobalAveragePool", ["input"], ["brightness"], name="brightness"))
    changed.graph.output.append(
        onnx.helper.make_tensor_value_info("brightness", onnx.TensorProto.FLOAT, ["batch", channels, 1, 1])
    )
    onnx.save(changed, tmp_path / "changed.onnx")
    _, edited = plans(tmp_path / "changed.onnx", Precision.int8)
    integers = np.full((2, channels, 8, 8), 50, np.int8)
    session = onnxruntime.InferenceSession(edited.SerializeToString())
    np.testing.assert_allclose(session.run(["brightness"], {"input": integers})[0], 50 * SCALE, rtol=1e-6)
    assert stem.name  # the quantized reader is still there, beside the float one
    assert session.run([edited.graph.output[0].name], {"input": integers})[0].shape == (2, 10)


def test_float16_images_are_what_the_cast_made_of_float32_images(model: Path) -> None:
    usual, edited = plans(model, Precision.fp16)
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    half = as_input(images, TensorSpec("input", np.dtype(np.float16), ("batch", 3, 8, 8)))
    # ONNX Runtime computes FP16 on a CPU through float32, which it fuses differently around the Cast
    np.testing.assert_allclose(answers(edited, half), answers(usual, images), atol=2e-3)


def test_a_loaded_engine_knows_the_scale_of_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in.install(monkeypatch)
    path = tmp_path / "engine.trt"
    path.write_bytes(tensorrt_runtime.plan(dtype="INT8"))
    manifest.seal(path, "build_int8", [], TARGET, {"input_scales": {"x": SCALE}})
    with load_engine(tensorrt_runtime, path, TARGET) as engine:  # type: ignore[arg-type,unused-ignore]
        (spec,) = engine.interface.inputs
        assert (spec.dtype.name, spec.scale) == ("int8", SCALE)
        twice = engine.infer({"x": as_input(np.full((1, 3, 4), 0.6, np.float32), spec)})["y"]
    np.testing.assert_array_equal(twice, np.full((1, 3, 4), 40, np.int8))  # the stand-in doubles


def test_onnx_runtime_refuses(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"build\.input_type: native is for TensorRT.*set build\.input_type=float32"):
        ONNX_RUNTIME.build(model, BuildJob(Precision.fp32, native(), None))


@pytest.mark.skipif(RTX.why_not(Capability.build) is not None, reason=str(RTX.why_not(Capability.build)))
@pytest.mark.parametrize(("precision", "products"), [("fp16", 0), ("int8", 6)])
def test_rtx_builds_it(model: Path, precision: str, products: int) -> None:
    built = RTX.build(
        model,
        BuildJob(
            Precision[precision], native(), plain_recipe(CACHE if precision == "int8" else None), axes=batches(1, 2, 4)
        ),
    )
    assert (built.quantizable, built.quantized) == (6, products)
