"""One builder for TensorRT 8.6, 10 and 11: what it asks of each version's API, held against the names that each really
has.
"""

from __future__ import annotations

import ast
import json
import re
from importlib.metadata import files
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtimes.tensorrt.networks import resnet

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, CalibrationAlgorithm, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch, ConfigError, EnginewrightError, ModelError, RuntimeUnavailable
from enginewright.graph.multiplications import multiplications
from enginewright.interface import Axes, batches
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.tensorrt.bindings import version_stamp
from enginewright.runtimes.tensorrt.builder import Job, build_engine
from enginewright.runtimes.tensorrt.scales import complete
from enginewright.runtimes.tensorrt.timing_cache import TimingCache
from enginewright.target import TargetFingerprint
from support import cuda_stand_in
from support.calibrated import plain_recipe
from support.tensorrt_stand_in.builder import Record, stand_in, surface

AXES = batches(1, 2, 4)
TARGET = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0")
VERSIONS = ("8.6.0", "10.3.0", "11.4.0")
NETWORK = resnet((1,), 4, 8, 10)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(NETWORK, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def scales(header: Header = Header.entropy) -> CalibrationCache:
    return CalibrationCache(
        header, {tensor: 0.03 for node in NETWORK.graph.node for tensor in (*node.input, *node.output)}
    )


def build(
    version: str,
    model: Path,
    precision: Precision,
    record: Record,
    settings: Optional[Build] = None,
    cache: Optional[CalibrationCache] = None,
    *,
    axes: Axes = AXES,
) -> BuiltEngine:
    recipe = plain_recipe(cache or (scales() if precision is Precision.int8 else None))
    asked = BuildJob(precision, settings or Build(), recipe, axes=axes)
    return build_engine(stand_in(version, record), Job(model, asked, TARGET))


@pytest.mark.parametrize(
    ("version", "precision", "mode", "flags", "in_the_onnx"),
    [
        pytest.param("8.6.0", "fp32", "implicit", [], set(), id="8.6 fp32"),
        pytest.param("8.6.0", "fp16", "implicit", ["FP16"], set(), id="8.6 fp16"),
        pytest.param("8.6.0", "int8", "implicit", ["FP16", "INT8"], set(), id="8.6 int8"),
        pytest.param("10.3.0", "int8", "implicit", ["FP16", "INT8"], set(), id="10 int8"),
        pytest.param("11.4.0", "fp32", "explicit", [], set(), id="11 fp32"),
        pytest.param("11.4.0", "fp16", "explicit", [], {"Cast"}, id="11 fp16"),
        pytest.param("11.4.0", "int8", "explicit", [], {"QuantizeLinear", "DequantizeLinear"}, id="11 int8"),
    ],
)
def test_auto_takes_flags_where_there_are_flags_and_the_onnx_where_there_are_none(
    model: Path, version: str, precision: str, mode: str, flags: list[str], in_the_onnx: set[str]
) -> None:
    record = Record()
    built = build(version, model, Precision[precision], record)
    assert record.flags == set(flags)
    assert {"Cast", "QuantizeLinear", "DequantizeLinear"} & set(record.operators) == in_the_onnx
    assert (built.settings["precision_mode"], built.settings["flags"]) == (mode, flags)
    assert json.loads(built.engine_bytes)["version"] == version


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_explicit_can_be_asked_for_where_both_ways_exist(model: Path, version: str) -> None:
    record = Record()
    build(version, model, Precision.int8, record, Build(precision_mode=PrecisionMode.explicit))
    assert "QuantizeLinear" in record.operators
    assert record.flags == {"INT8", "FP16"}  # 8.6 refuses Q/DQ without the INT8 flag
    assert record.calibrator_class == ""


@pytest.mark.parametrize(
    ("algorithm", "base"),
    [
        ("entropy", "IInt8EntropyCalibrator2"),
        ("minmax", "IInt8MinMaxCalibrator"),
        ("percentile", "IInt8MinMaxCalibrator"),
    ],
)
@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_the_portable_scales_are_taken_without_asking_for_images(
    model: Path, version: str, algorithm: str, base: str
) -> None:
    record = Record()
    build(version, model, Precision.int8, record, cache=scales(Header.of(CalibrationAlgorithm[algorithm])))
    assert (record.calibrator_class, record.batches) == (base, 0)


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_a_gemms_inner_tensors_get_scales_so_that_it_runs_in_int8(model: Path, version: str) -> None:
    record, cache = Record(), scales()
    build(version, model, Precision.int8, record)
    taken = CalibrationCache.parse(record.taken_cache).scales
    assert {tensor: taken[tensor] for tensor in cache.scales} == pytest.approx(cache.scales)
    largest = float(
        np.abs(
            numpy_helper.to_array(
                next(tensor for tensor in NETWORK.graph.initializer if tensor.name == NETWORK.graph.node[-1].input[1])
            )
        ).max()
    )
    inner = {
        tensor.rpartition("[")[2]: scale
        for tensor, scale in taken.items()
        if tensor not in cache.scales and "Constant" not in tensor
    }
    constants = sorted(scale for tensor, scale in taken.items() if "[Constant]" in tensor)
    assert constants == pytest.approx(sorted([largest / 127, 1 / 127]))  # the bias is all zeros
    assert inner == pytest.approx({"Matrix Multiply]_output": 0.03 + 1 / 127, "Shuffle]_output": 1 / 127})


def test_a_gemm_that_stays_in_float_gets_none(model: Path) -> None:
    record = Record()
    _mixed("8.6.0", model, record, NETWORK.graph.node[-1].name)
    assert set(CalibrationCache.parse(record.taken_cache).scales) == set(scales().scales)


def test_the_inner_tensors_of_a_gemm_are_found_in_a_real_network() -> None:
    """As TensorRT-RTX's parser makes it; that library takes no calib.cache, but its networks are TensorRT's."""
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; `make rtx` installs it")
    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(NETWORK.SerializeToString())
    found = complete(rtx, network, scales()).scales
    products = [
        network.get_layer(index)
        for index in range(network.num_layers)
        if network.get_layer(index).type == rtx.LayerType.MATRIX_MULTIPLY
    ]
    assert [layer.name for layer in products] == [NETWORK.graph.node[-1].name]
    assert found[products[0].get_output(0).name] == pytest.approx(0.03 + 1 / 127)
    assert products[0].get_input(1).name in found


def test_scales_that_tensorrt_refuses_end_the_build(model: Path) -> None:
    with pytest.raises(
        CalibrationMismatch, match=r"does not accept calib\.cache under the header TRT-8600-EntropyCalibration2"
    ):
        build("8.6.0", model, Precision.int8, Record(refuses_cache=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_profile_and_the_settings_reach_the_builder(model: Path, version: str) -> None:
    record = Record()
    settings = Build(workspace_mib=7, optimization_level=4, tactic_sources=["JIT_CONVOLUTIONS"])
    built = build(version, model, Precision.fp32, record, settings, axes=batches(2, 3, 5))
    assert record.profiles == [{"input": ((2, 3, 8, 8), (3, 3, 8, 8), (5, 3, 8, 8))}]
    assert record.limits == {"WORKSPACE": 7 << 20}
    assert record.settings["builder_optimization_level"] == 4
    assert record.settings["profiling_verbosity"].name == "DETAILED"
    trt: Any = stand_in(version, Record())
    assert record.tactic_sources == 1 << int(trt.TacticSource.JIT_CONVOLUTIONS)  # cuBLAS, cuBLAS-Lt and cuDNN are off
    assert record.flags == set()
    assert record.network_flags == (0 if version == "11.4.0" else 1)  # EXPLICIT_BATCH is gone in 11
    assert built.settings["axes"] == {"batch": {"min": 2, "opt": 3, "max": 5}}
    assert built.settings["tensorrt"] == version
    assert built.settings["compute_capability"] == "9.0"


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_fp32_is_fp32_unless_tf32_is_asked_for(model: Path, version: str, asked: bool) -> None:
    record = Record()
    build(version, model, Precision.fp32, record, Build(tf32=asked))
    assert ("TF32" in record.flags, "TF32" in record.cleared) == (asked, not asked)


@pytest.mark.parametrize(
    ("version", "phases"), [("8.6.0", []), ("10.3.0", ["Building True"]), ("11.4.0", ["Building True"])]
)
def test_a_progress_monitor_is_set_where_there_is_one_and_never_cancels(
    model: Path, version: str, phases: list[str]
) -> None:
    record = Record()
    build(version, model, Precision.fp32, record)
    assert record.phases == phases


def test_the_inspector_says_what_really_runs_in_int8(model: Path) -> None:
    layers = [node.name for node in _layers(NETWORK)]
    built = build("8.6.0", model, Precision.int8, Record(described=_described(INT8=layers[:4], FP16=layers[4:5])))
    assert built.layers == {"FP16": 1, "INT8": 4}
    assert (built.quantizable, built.quantized) == (6, 4)
    assert json.loads(built.files["layers.json"])["Layers"][0]["Metadata"] == f"[ONNX Layer: {layers[0]}]\x1e"
    assert built.warnings == [
        f"{layers[4]} runs in float, not in INT8",
        f"{layers[5]} runs in float, not in INT8 (no layer of the engine bears its name)",
    ]
    assert built.int8["layers"] == {"int8": 4, "float": 2, "unknown": 0}
    assert sum(built.int8["multiplications"].values()) == pytest.approx(1)
    assert built.findings == []


def _described(**layers: list[str]) -> list[dict[str, Any]]:
    """Convolutions as the inspector of 8.6 describes them, by precision."""
    words = {"INT8": "Int8", "FP16": "Half"}
    return [
        {
            "Name": name,
            "LayerType": "CaskConvolution",
            "Metadata": f"[ONNX Layer: {name}]",
            "Weights": {"Type": words[precision]},
            "Inputs": [],
        }
        for precision, names in layers.items()
        for name in names
    ]


def _fused(first: str, last: str, *others: dict[str, Any]) -> list[dict[str, Any]]:
    """A part of the network that Myelin compiled as one, as 8.6 describes it with a dynamic batch, and further
    layers.
    """
    tensors = {"Inputs": [{"Name": "x", "Format/Datatype": "N/A due to dynamic shapes"}], "Outputs": []}
    return [
        {
            "Name": f"{{ForeignNode[{first}...{last}]}}",
            "LayerType": "Myelin",
            "TacticName": "",
            "Metadata": "",
            **tensors,
        },
        *others,
    ]


@pytest.mark.parametrize("mode", [PrecisionMode.implicit, PrecisionMode.explicit])
def test_an_int8_engine_without_a_layer_in_int8_is_refused(model: Path, mode: PrecisionMode) -> None:
    record = Record(described=_described(FP16=[node.name for node in _layers(NETWORK)]))
    other = "implicit" if mode is PrecisionMode.explicit else "explicit"
    with pytest.raises(
        ModelError, match=rf"none of the 6 layers runs in it: .*; set build\.precision_mode={other}.*FP16 engine"
    ):
        build("8.6.0", model, Precision.int8, record, Build(precision_mode=mode))


def test_implicit_int8_does_not_reach_into_a_fused_node(model: Path) -> None:
    """ViT-B/16 in the default mode ran 0 of 74 layers in INT8 and passed every gate: Myelin takes no calibrator's
    scales.
    """
    first, *_, last = (node.name for node in _layers(NETWORK))
    with pytest.raises(ModelError, match="none of the 6 layers runs in it"):
        build(
            "8.6.0",
            model,
            Precision.int8,
            Record(described=_fused(first, last)),
            Build(precision_mode=PrecisionMode.implicit),
        )


def test_what_explicit_int8_runs_inside_a_fused_node_is_unknown_and_its_work_is_stated(model: Path) -> None:
    first, second, *_, last = (node.name for node in _layers(NETWORK))
    record = Record(described=_fused(second, last, *_described(INT8=[first])))
    built = build("8.6.0", model, Precision.int8, record, Build(precision_mode=PrecisionMode.explicit))
    assert built.int8["layers"] == {"int8": 1, "float": 0, "unknown": 5}
    assert (built.quantized, built.layers) == (1, {"FUSED": 1, "INT8": 1})
    work = built.int8["multiplications"]["unknown"]
    assert 0 < work < 1
    (finding,) = built.findings
    assert f"unknown in which precision 5 of 6 layers (83%, and {work:.1%} of the multiplications) run" in finding
    assert f"{{ForeignNode[{second}...{last}]}}" in finding
    assert built.warnings == []  # not one for each layer


def test_a_layer_without_qdq_inside_a_fused_node_runs_in_float(model: Path) -> None:
    first, second, *others = (node.name for node in _layers(NETWORK))
    record = Record(described=_fused(second, others[-1], *_described(INT8=[first])))
    settings = Build(precision_mode=PrecisionMode.explicit)
    asked = BuildJob(Precision.int8_mixed, settings, QuantizationRecipe(scales()), (second, *others))
    built = build_engine(stand_in("8.6.0", record), Job(model, asked, TARGET))
    assert built.int8["layers"] == {"int8": 1, "float": 0, "unknown": 0}  # of the layers that INT8 was asked for
    assert built.findings == []


def test_less_than_half_in_int8_is_a_finding(model: Path) -> None:
    first, second, *others = (node.name for node in _layers(NETWORK))
    built = build("8.6.0", model, Precision.int8, Record(described=_described(INT8=[first, second], FP16=others)))
    (finding,) = built.findings
    assert finding.startswith("less than half runs in INT8: 2 of 6 layers (33%, and ")
    assert "set build.precision_mode=explicit" in finding


def test_many_layers_of_little_work_are_less_than_half_too(model: Path) -> None:
    """Four of six layers, which do less than half of the multiplications."""
    work = multiplications(NETWORK)
    by_work = sorted(_layers(NETWORK), key=lambda node: work[node.output[0]] or 0)
    built = build(
        "8.6.0", model, Precision.int8, Record(described=_described(INT8=[node.name for node in by_work[:4]]))
    )
    assert built.findings[0].startswith("less than half runs in INT8: 4 of 6 layers (67%, and ")


@pytest.mark.parametrize("raises", [False, True], ids=["returns None", "raises"])
def test_auto_falls_back_to_explicit_where_implicit_fails(model: Path, raises: bool) -> None:
    said = [("ERROR", "10: [refitUtils.cpp::build::99] Error Code 10: Assertion engine failed")]
    record = Record(messages=said, fails_without="QuantizeLinear", raises=raises)
    built = build("8.6.0", model, Precision.int8, record)
    assert record.builds == 2
    assert built.settings["precision_mode"] == "explicit"
    assert built.quantized == 6
    assert "implicit way failed" in built.findings[0]
    assert "Assertion engine failed" in built.findings[0]


@pytest.fixture
def upsampling(tmp_path: Path) -> Path:
    """A convolution behind a ConvTranspose."""
    weights = {"w0": (8, 3, 3, 3), "w1": (8, 4, 2, 2), "w2": (4, 4, 3, 3)}
    random = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], name="conv0", pads=[1] * 4),
        helper.make_node("ConvTranspose", ["a", "w1"], ["b"], name="up", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["b", "w2"], ["logits"], name="conv1", pads=[1] * 4),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (("input", (3, 8, 8)), ("logits", (4, 16, 16)))
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "up", values[:1], values[1:], stored), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(made, tmp_path / "up.onnx")
    return tmp_path / "up.onnx"


def _upsampling_scales() -> CalibrationCache:
    return CalibrationCache(Header.entropy, dict.fromkeys(("input", "a", "b", "logits"), 0.03))


def test_a_transposed_convolution_stays_in_fp16_where_no_engine_can_be_built_with_it_in_int8(upsampling: Path) -> None:
    """As TensorRT 8.6.0 did with a U-Net on an H200: explicit failed, and implicit with ConvTranspose in FP16 did
    not.
    """
    record = Record(messages=[("ERROR", "Assertion engine failed")], fails_with_quantized="ConvTranspose")
    built = build("8.6.0", upsampling, Precision.int8, record, cache=_upsampling_scales())
    assert record.builds == 2
    assert built.settings["precision_mode"] == "implicit"
    assert built.settings["float_nodes"] == ["up"]
    assert built.left_in_float == {"up": "TensorRT 8.6.0 built no engine with it in INT8"}
    assert re.search(
        r"the explicit way failed: .*Assertion engine failed.*built the implicit way with ConvTranspose in FP16",
        built.findings[0],
    )


def test_where_no_way_leads_to_int8_each_message_is_kept(upsampling: Path) -> None:
    record = Record(messages=[("ERROR", "Assertion engine failed")], fails=True)
    with pytest.raises(ModelError, match="all ways to INT8 failed") as failed:
        build("8.6.0", upsampling, Precision.int8, record, cache=_upsampling_scales())
    assert str(failed.value).count("Assertion engine failed") == record.builds == 3


def test_implicit_that_was_asked_for_does_not_fall_back(model: Path) -> None:
    record = Record(fails_without="QuantizeLinear")
    with pytest.raises(ModelError, match="could not build the int8 engine"):
        build("8.6.0", model, Precision.int8, record, Build(precision_mode=PrecisionMode.implicit))
    assert record.builds == 1


def test_two_failed_ways_are_both_in_the_error(model: Path) -> None:
    record = Record(messages=[("ERROR", "Assertion engine failed")], fails=True)
    with pytest.raises(
        ModelError,
        match=(
            r"both ways to INT8 failed; the implicit way .*Assertion engine failed; the explicit way .*Assertion engine"
            r" failed"
        ),
    ):
        build("8.6.0", model, Precision.int8, record)
    assert record.builds == 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_engine_has_no_second_way(model: Path, precision: str) -> None:
    record = Record(fails_without="QuantizeLinear")
    with pytest.raises(ModelError, match="could not build"):
        build("8.6.0", model, Precision[precision], record)
    assert record.builds == 1


def test_the_builders_warnings_come_back_each_once(model: Path) -> None:
    said = [
        ("WARNING", "Missing scale and zero-point for tensor add_9_out, expect fall back to non-int8 implementation"),
        ("WARNING", "Missing scale and zero-point for tensor add_17_out, expect fall back to non-int8 implementation"),
        ("INFO", "Total Activation Memory: 1"),
        ("ERROR", "Tactic Device request: 4000MB Available: 2000MB. Device memory is insufficient to use tactic."),
    ]
    warnings = build("8.6.0", model, Precision.fp32, Record(messages=said)).warnings
    assert len(warnings) == 3
    assert warnings[0].startswith("error: Tactic Device request: 4000MB")
    assert "add_9_out" in warnings[1]


MEASURED = Path(__file__).parents[3] / "docs" / "measurements"


def test_harmless_lines_of_recorded_builds_stand_neither_among_warnings_nor_in_front_of_a_cause(model: Path) -> None:
    recorded = [
        json.loads(path.read_text())["settings"]["warnings"]
        for path in sorted(MEASURED.glob("*tensorrt*/pipeline_*/engine_*.trt.json"))
    ]
    assert len(recorded) >= 9
    lines = [
        ("ERROR", text[len("error: ") :]) if text.startswith("error: ") else ("WARNING", text)
        for texts in recorded
        for text in texts
    ]
    assert any("Myelin error" in text for _, text in lines)
    kept = build("8.6.0", model, Precision.fp32, Record(messages=lines)).warnings
    assert not [
        text
        for text in kept
        if not text.startswith(("Missing scale", "- ", "One or more weights outside the range of INT32"))
    ]
    cause = (
        "ERROR",
        "4: [network.cpp::validate::3005] Error Code 4: Internal Error (Layer /pad/Concat failed validation)",
    )
    with pytest.raises(ModelError, match=r"model\.onnx: 4: .*Layer /pad/Concat failed validation\)$"):
        build("8.6.0", model, Precision.fp32, Record(messages=[*lines, cause], fails=True))


def test_a_skipped_kernel_is_no_cause_where_there_is_another(model: Path) -> None:
    skipped = ("ERROR", "Tactic Device request: 4000MB Available: 2000MB. Device memory is insufficient to use tactic.")
    cause = ("ERROR", "10: Could not find any implementation for node conv.")
    with pytest.raises(ModelError, match=r"model\.onnx: 10: Could not find any implementation for node conv$"):
        build("8.6.0", model, Precision.fp32, Record(messages=[skipped, cause], fails=True))
    with pytest.raises(ModelError, match="insufficient to use tactic"):
        build("8.6.0", model, Precision.fp32, Record(messages=[skipped], fails=True))


def test_a_failed_build_that_says_harmless_things_alone_gave_no_reason(model: Path) -> None:
    with pytest.raises(ModelError, match="it gave no reason"):
        build(
            "8.6.0",
            model,
            Precision.fp32,
            Record(messages=[("ERROR", "4: The timing cache will not be used!")], fails=True),
        )


def test_advice_about_integer_inputs_and_absent_ones_is_no_warning(model: Path) -> None:
    said = (
        "ModelImporter.cpp:1071: Make sure input input_ids has Int64 binding.",
        "WeightsContext.cpp:525: Empty initializer sizes was provided with non-empty data. Overriding data to nullptr",
    )
    assert not build("11.4.0", model, Precision.fp32, Record(messages=[("WARNING", text) for text in said])).warnings


def test_warnings_that_differ_in_numbers_alone_are_counted(model: Path) -> None:
    said = [("WARNING", f"weight {value}e-08 is subnormal in FP16") for value in range(70)]
    assert build("8.6.0", model, Precision.fp32, Record(messages=said)).warnings == [
        "weight 0e-08 is subnormal in FP16 (and 69 more like it)"
    ]


def test_a_failed_build_names_its_first_error(model: Path) -> None:
    said = [
        ("ERROR", "4: [network.cpp::validate::3005] Error Code 4: Internal Error (Layer /pad failed validation)"),
        ("ERROR", "Engine generation failed"),
    ]
    with pytest.raises(
        ModelError, match=r"TensorRT 10.3.0 could not build the fp16 engine of .*model.onnx: 4: .*failed validation"
    ):
        build("10.3.0", model, Precision.fp16, Record(messages=said, fails=True))


@pytest.mark.parametrize(
    "said",
    [
        "2: [myelinBuilder.cpp::build::12] Error Code 2: out of memory",
        "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
        "1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)",
        "1: [convolutionRunner.cpp::execute::391] Error Code 1: Cuda Runtime (an illegal memory access)",
        "Requested amount of GPU memory (1099511627776 bytes) could not be allocated.",
    ],
)
@pytest.mark.parametrize("precision", [Precision.fp16, Precision.int8])
def test_a_build_that_the_device_failed_says_nothing_of_the_model(model: Path, said: str, precision: Precision) -> None:
    record = Record(messages=[("ERROR", said), ("ERROR", "Engine generation failed")], fails=True)
    with pytest.raises(RuntimeUnavailable, match=r"the device failed TensorRT 8.6.0 while it built .*free its memory"):
        build("8.6.0", model, precision, record)
    assert record.builds == 1, "no other way to INT8 is tried on a device that fails"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_parser_error_is_shown_with_node_and_operator(tmp_path: Path, version: str) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "output")]
    nodes = [
        helper.make_node("NoSuchOp", ["input"], ["middle"], name="first"),
        helper.make_node("NoSuchOp", ["middle"], ["output"], name="second"),
    ]
    broken = helper.make_model(
        helper.make_graph(nodes, "broken", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(broken, tmp_path / "broken.onnx")
    with pytest.raises(
        ModelError,
        match=r"cannot parse .*broken.onnx: node 'first' \(NoSuchOp\): no importer .*; node 'second' \(NoSuchOp\)",
    ):
        build(version, tmp_path / "broken.onnx", Precision.fp32, Record())


@pytest.mark.parametrize(
    ("version", "precision", "settings", "fault", "says"),
    [
        pytest.param(
            "11.4.0",
            "int8",
            Build(precision_mode=PrecisionMode.implicit),
            ConfigError,
            "implicit is not in tensorrt 11.4.0",
            id="implicit on 11",
        ),
        pytest.param(
            "8.6.0",
            "fp32",
            Build(tactic_sources=["CUDN"]),
            ConfigError,
            "build.tactic_sources: .* no CUDN; did you mean 'CUDNN'",
            id="tactic source",
        ),
        pytest.param(
            "11.4.0",
            "fp32",
            Build(tactic_sources=["CUBLAS"]),
            ConfigError,
            "build.tactic_sources: this TensorRT has no CUBLAS",
            id="gone in 11",
        ),
    ],
)
def test_settings_that_a_version_does_not_know_are_refused(
    model: Path, version: str, precision: str, settings: Build, fault: type[EnginewrightError], says: str
) -> None:
    with pytest.raises(fault, match=says):
        build(version, model, Precision[precision], Record(), settings)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("cache", "says"),
    [
        pytest.param(None, "needs calib.cache; run `dvc repro calibrate`", id="none"),
        pytest.param(
            CalibrationCache(Header.entropy, {"other": 1.0}),
            "no scale for .*: it belongs to another model",
            id="another model's",
        ),
    ],
)
def test_int8_without_scales_that_fit_is_refused(
    model: Path, version: str, cache: Optional[CalibrationCache], says: str
) -> None:
    asked = BuildJob(Precision.int8, Build(), plain_recipe(cache))
    with pytest.raises(CalibrationMismatch, match=says):
        build_engine(stand_in(version, Record()), Job(model, asked, TARGET))


def test_a_fixed_batch_must_be_the_profile(tmp_path: Path) -> None:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(NETWORK)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, tmp_path / "fixed.onnx")
    with pytest.raises(
        ModelError, match=r"has the fixed batch 4; export it with a dynamic batch, or set axes\.batch to 4"
    ):
        build("8.6.0", tmp_path / "fixed.onnx", Precision.fp32, Record())
    assert build("8.6.0", tmp_path / "fixed.onnx", Precision.fp32, Record(), axes=batches(4, 4, 4)).engine_bytes


def test_the_timing_cache_is_used_and_kept(model: Path, tmp_path: Path) -> None:
    for given in (b"", b"measured;"):
        record = Record()
        timings = TimingCache(tmp_path / "timing", TARGET)
        job = Job(model, BuildJob(Precision.fp32, Build()), TARGET, timing_cache=timings)
        build_engine(stand_in("8.6.0", record), job)
        assert record.given_timings == given


@pytest.mark.parametrize(
    ("version", "stamp"),
    [("8.6.0", "8600"), ("8.6.1.6", "8601"), ("8.5.2.2", "8502"), ("10.3.0.26", "100300"), ("10.13.3.9", "101303")],
)
def test_the_stamp_of_a_version_is_the_number_in_its_own_cache_headers(version: str, stamp: str) -> None:
    assert version_stamp(version) == stamp


def test_the_stand_in_has_only_names_of_tensorrt_8_6() -> None:
    """Of the builder's half; test_engine.py holds the runtime's."""
    recorded = json.loads((Path(__file__).parent / "names_8_6.json").read_text())["classes"]
    assert {
        name: names - set(recorded[name]) for name, names in surface("8.6.0").items() if names - set(recorded[name])
    } == {}


def test_the_stand_in_has_only_names_of_tensorrt_10() -> None:
    stub = next(
        (entry for entry in files("tensorrt-stubs") or [] if str(entry) == "tensorrt_bindings/tensorrt.pyi"), None
    )
    assert stub is not None
    text = stub.read_text().replace("in: list[", "in_: list[").replace("channel_axis: int)", "channel_axis: int = 0)")
    classes = {node.name: _names(node) for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    bases = {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
    }

    def known(name: str) -> set[str]:
        return set().union(classes[name], *(known(base) for base in bases[name] if base in classes))

    assert {name: names - known(name) for name, names in surface("10.13.0").items() if names - known(name)} == {}


def _names(node: ast.ClassDef) -> set[str]:
    found: set[str] = set()
    for entry in node.body:
        if isinstance(entry, (ast.FunctionDef, ast.ClassDef)):
            found.add(entry.name)
        elif isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            found.add(entry.target.id)
    return found


def test_the_stand_in_has_only_names_that_rtx_has_where_11_has_them_too() -> None:
    """TensorRT 11's Python is not installable without its libraries; RTX 1.7 shares its API, less the timing cache's
    use.
    """
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; `make rtx` installs it")
    assert {
        name: names - set(dir(getattr(rtx, name)))
        for name, names in surface("11.4.0").items()
        if names - set(dir(getattr(rtx, name)))
    } == {}


# --- layers that stay in FP16


def _mixed(version: str, model: Path, record: Record, *kept: str) -> BuiltEngine:
    asked = BuildJob(Precision.int8_mixed, Build(), QuantizationRecipe(scales()), kept, axes=batches(1, 2, 4))
    return build_engine(stand_in(version, record), Job(model, asked, TARGET))


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_float_nodes_are_obliged_to_fp16_where_there_are_flags(model: Path, version: str) -> None:
    network, record = onnx.load(str(model)), Record()
    while network.graph.node[-1].op_type != "Conv":  # so that what the application reads is a convolution's
        network.graph.node.pop()
    network.graph.output[0].name = network.graph.node[-1].output[0]
    onnx.save(network, model)
    chosen, last = (
        next(node.name for node in nodes if node.op_type == "Conv")
        for nodes in (network.graph.node, network.graph.node[::-1])
    )
    built = _mixed(version, model, record, chosen, last)
    half = stand_in(version, record).DataType.HALF
    assert record.constrained == {chosen: (half, half), last: (half, None)}  # what the application reads keeps its type
    assert record.flags == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
    assert built.settings["float_nodes"] == [chosen, last]


def test_what_computes_shapes_is_not_obliged_to_fp16(model: Path) -> None:
    network, record = onnx.load(str(model)), Record()
    network.graph.node.append(helper.make_node("Shape", ["input"], ["shape"], name="shape"))
    onnx.save(network, model)
    chosen = network.graph.node[0].name
    assert _mixed("8.6.0", model, record, chosen, "shape").warnings == []
    assert set(record.constrained) == {chosen}


def _layers(network: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in network.graph.node if node.op_type in ("Conv", "Gemm")]


def test_float_nodes_get_no_qdq_and_fp16_where_there_are_no_flags(model: Path) -> None:
    record, whole = Record(), Record()
    convolutions = [node.name for node in NETWORK.graph.node if node.op_type == "Conv"]
    _mixed("11.4.0", model, record, *convolutions)
    _mixed("11.4.0", model, whole)
    assert record.constrained == {}
    assert record.flags == set()
    assert record.operators.count("QuantizeLinear") < whole.operators.count("QuantizeLinear")
    assert "Cast" in record.operators


def test_a_float_node_that_became_no_layer_is_named(model: Path) -> None:
    assert any(
        "no layer with the name of gone" in warning for warning in _mixed("8.6.0", model, Record(), "gone").warnings
    )


def test_a_layer_that_runs_in_another_precision_than_was_asked_for_is_named(model: Path) -> None:
    first, second, *others = (node.name for node in _layers(NETWORK))
    record = Record(described=_described(INT8=[first, *others], FP16=[second]))
    assert _mixed("8.6.0", model, record, second).warnings == []
    assert _mixed("8.6.0", model, record, first, second).warnings == [f"{first} runs in INT8, and was to stay in FP16"]
    assert _mixed("8.6.0", model, record).warnings == [f"{second} runs in float, not in INT8"]


@pytest.mark.parametrize("mode", [PrecisionMode.implicit, PrecisionMode.explicit])
def test_nodes_without_names_can_stay_in_float_too(tmp_path: Path, mode: PrecisionMode) -> None:
    """They go by their first output, and by a name of the parser's in the engine."""
    network, path, record = onnx.ModelProto(), tmp_path / "model.onnx", Record()
    network.CopyFrom(NETWORK)
    for node in network.graph.node:
        node.name = ""
    onnx.save(network, path)
    first = _layers(network)[0]
    settings = Build(precision_mode=mode)
    asked = BuildJob(Precision.int8_mixed, settings, QuantizationRecipe(scales()), (first.output[0],), AXES)
    built = build_engine(stand_in("8.6.0", record), Job(path, asked, TARGET))
    assert built.int8["layers"] == {"int8": 5, "float": 0, "unknown": 0}
    assert (built.quantized, built.warnings, built.findings) == (5, [], [])
    if mode is PrecisionMode.implicit:
        assert set(record.constrained) == {f"node_of_{first.output[0]}"}


def test_the_stand_in_runs_what_it_built(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both halves speak of the same engine: a build's bytes load, are described, and answer."""
    cuda_stand_in.install(monkeypatch)
    trt: Any = stand_in("8.6.0", Record())
    built = build_engine(trt, Job(model, BuildJob(Precision.fp32, Build()), TARGET))
    engine = trt.Runtime(trt.ILogger()).deserialize_cuda_engine(built.engine_bytes)
    described = json.loads(
        engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON), strict=False
    )
    assert [layer["LayerType"] for layer in described["Layers"]] == ["CaskConvolution"] * len(described["Layers"])
    assert engine.create_execution_context_without_device_memory() is not None
