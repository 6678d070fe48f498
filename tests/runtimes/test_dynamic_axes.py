"""One engine for many sizes: what each builder is told, what the engine takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright import manifest
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision, PrecisionMode
from enginewright.errors import ConfigError, EngineInputError
from enginewright.interface import Axes, AxisRange, Interface, batches
from enginewright.manifest import Usage
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime import RUNTIME as ONNX_RUNTIME
from enginewright.runtimes.tensorrt.builder import Job, build_engine
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX
from enginewright.target import TargetFingerprint
from support.tensorrt_stand_in.builder import Record, stand_in

TARGET = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0")
SIDE = AxisRange(320, 640, 1280)
AXES: Axes = {**batches(1, 1, 2), "height": SIDE, "width": SIDE}
SHAPES = {
    "images": ((1, 3, 320, 320), (1, 3, 640, 640), (2, 3, 1280, 1280)),
    "meta": ((1, 4), (1, 4), (2, 4)),
}
ABSENT = RTX.why_not(Capability.build)
Array = npt.NDArray[Any]


def network() -> onnx.ModelProto:
    """A map of the image's size, and scores of the image's mean and four numbers: two inputs, two outputs."""
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.standard_normal((8, 3, 3, 3)) / 5,
        "one": random.standard_normal((2, 8, 1, 1)) / 3,
        "mix": random.standard_normal((4, 8)),
        "head": random.standard_normal((8, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["edges"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["edges"], ["features"], "relu"),
        helper.make_node("Conv", ["features", "one"], ["map"], "map_conv"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["meta", "mix"], ["mixed"], "mix_product"),
        helper.make_node("Add", ["flat", "mixed"], ["sum"], "sum"),
        helper.make_node("MatMul", ["sum", "head"], ["scores"], "head_product"),
    ]
    real = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("images", real, ["batch", 3, "height", "width"]),
            helper.make_tensor_value_info("meta", real, ["batch", 4]),
        ],
        [
            helper.make_tensor_value_info("map", real, ["batch", 2, "height", "width"]),
            helper.make_tensor_value_info("scores", real, ["batch", 5]),
        ],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(height: int, width: int, rows: int = 1) -> dict[str, Array]:
    random = np.random.default_rng([height, width])
    images = random.standard_normal((rows, 3, height, width), dtype=np.float32)
    return {"images": images, "meta": random.standard_normal((rows, 4), dtype=np.float32)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture(scope="module")
def recipe(model: Path) -> QuantizationRecipe:
    """Calibrated at the samples' own shapes, one after the other."""
    settings = Calibration(algorithm=CalibrationAlgorithm.minmax)
    return QuantizationRecipe(ONNX_RUNTIME.calibrate(model, [feeds(320, 480), feeds(480, 320, rows=2)], settings))


def test_every_tensor_has_a_scale_though_the_samples_differ_in_shape(recipe: QuantizationRecipe) -> None:
    assert {"images", "meta", "features", "flat", "sum"} <= set(recipe.scales.scales)


@pytest.mark.slow
@pytest.mark.parametrize("precision", list(Precision)[:3])
def test_one_engine_of_onnx_runtime_runs_at_every_size_and_refuses_the_next(
    model: Path, recipe: QuantizationRecipe, tmp_path: Path, precision: Precision
) -> None:
    built = ONNX_RUNTIME.build(model, BuildJob(precision, Build(), recipe, axes=AXES))
    assert built.settings["axes"] == {name: its.to_dict() for name, its in AXES.items()}
    path = tmp_path / ONNX_RUNTIME.engine_file
    path.write_bytes(built.engine_bytes)
    usage = Usage(Interface.from_file(model))
    manifest.seal(path, "build", [], ONNX_RUNTIME.fingerprint(), dict(built.settings), usage=usage)
    exact = ONNX_RUNTIME.build(model, BuildJob(Precision.fp32, Build(), axes=AXES)).engine_bytes
    with ONNX_RUNTIME.load(path) as engine:
        assert engine.axes == AXES
        for height, width in ((480, 640), (640, 480), (320, 320), (1280, 640)):
            given = feeds(height, width)
            found, expected = engine.infer(given), answers(exact, given)
            assert found["map"].shape == (1, 2, height, width)
            for name, its in expected.items():
                noise = float(np.square(found[name] - its).sum() / np.square(its).sum())
                assert noise < (1e-9 if precision is Precision.fp32 else 1e-4 if precision is Precision.fp16 else 0.01)
        for height, width, sentence in (
            (1281, 640, "the axis 'height' of the input 'images' is 1281, and the engine takes 320 to 1280"),
            (640, 319, "the axis 'width' of the input 'images' is 319, and the engine takes 320 to 1280"),
        ):
            with pytest.raises(EngineInputError, match=sentence):
                engine.infer(feeds(height, width))
        with pytest.raises(EngineInputError, match="the inputs disagree on the axis 'batch'"):
            engine.infer({**feeds(320, 320), "meta": np.zeros((2, 4), np.float32)})
        laid = engine.pinned_inputs(2, {"height": 480, "width": 640})
        assert {name: array.shape for name, array in laid.items()} == {"images": (2, 3, 480, 640), "meta": (2, 4)}
        assert engine.pinned_inputs(1)["images"].shape == (1, 3, 1280, 1280)


def answers(engine: bytes, given: dict[str, Array]) -> dict[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(engine)
    return dict(zip(("map", "scores"), session.run(["map", "scores"], given)))


@pytest.mark.slow
@pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
@pytest.mark.parametrize("precision", list(Precision)[:3])
def test_one_engine_of_tensorrt_rtx_is_built_for_every_size(
    model: Path, recipe: QuantizationRecipe, precision: Precision
) -> None:
    built = RTX.build(model, BuildJob(precision, Build(compute_capabilities=["8.6"]), recipe, axes=AXES))
    assert built.engine_bytes[:4] == b"vtrt"
    assert built.settings["axes"] == {name: its.to_dict() for name, its in AXES.items()}
    assert {name: tuple(map(tuple, its.values())) for name, its in built.settings["shapes"].items()} == SHAPES
    assert built.quantized == (4 if precision is Precision.int8 else 0)


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0"])
@pytest.mark.parametrize("mode", [PrecisionMode.implicit, PrecisionMode.explicit])
def test_tensorrt_gets_the_three_shapes_of_every_input(
    model: Path, recipe: QuantizationRecipe, version: str, mode: PrecisionMode
) -> None:
    if version.startswith("11") and mode is PrecisionMode.implicit:
        pytest.skip("TensorRT 11 has no implicit precision")
    record = Record()
    asked = BuildJob(Precision.int8, Build(precision_mode=mode), recipe, axes=AXES)
    built = build_engine(stand_in(version, record), Job(model, asked, TARGET))
    assert record.profiles == [SHAPES]
    assert built.settings["axes"]["height"] == {"min": 320, "opt": 640, "max": 1280}


def test_an_axis_without_a_range_is_named(model: Path) -> None:
    asked = BuildJob(Precision.fp32, Build(), axes={**batches(1, 1, 2), "height": SIDE})
    with pytest.raises(ConfigError) as fault:
        build_engine(stand_in("8.6.0", Record()), Job(model, asked, TARGET))
    assert str(fault.value) == (
        "the axis 'width' of the input 'images' ['batch', 3, 'height', 'width'] has no range; there is one for batch,"
        " height; set axes.width={min: ..., opt: ..., max: ...}, or export the model with a fixed size"
    )
