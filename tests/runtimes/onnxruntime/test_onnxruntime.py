from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import pytest

from enginewright import load, manifest
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision, Profile
from enginewright.errors import CalibrationMismatch, EngineInputError, ModelError, StaleArtifact
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.session import Purpose, needs_exact_products, open_session, session_options
from enginewright.target import TargetFingerprint
from support.calibrated import plain_recipe
from support.networks import images, residual_network

SETTINGS = Build(profile=Profile(1, 2, 3))
PRECISIONS = pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.name)


@pytest.fixture
def model(here: Path) -> Path:
    path = here / "model.onnx"
    onnx.save(residual_network(), path)
    return path


def build(model: Path, precision: Precision) -> BuiltEngine:
    cache: Optional[CalibrationCache] = None
    if precision in (Precision.int8, Precision.int8_mixed):
        cache = RUNTIME.calibrate(model, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))
    return RUNTIME.build(model, BuildJob(precision, SETTINGS, plain_recipe(cache)))


def sealed(model: Path, precision: Precision, target: Optional[TargetFingerprint] = None) -> Path:
    built = build(model, precision)
    engine = model.with_name(RUNTIME.engine_file)
    engine.write_bytes(built.engine_bytes)
    manifest.seal(engine, "build", [model], target or RUNTIME.fingerprint(), built.settings)
    return engine


@PRECISIONS
def test_an_engine_goes_from_onnx_to_answers(model: Path, precision: Precision) -> None:
    with load(sealed(model, precision)) as engine:
        assert [(spec.name, spec.dtype.name, spec.shape) for spec in engine.interface.inputs] == [
            ("input", "float32", ("batch", 3, 12, 12))
        ]
        answers = engine.infer({"input": images(7)})["logits"]
        assert (answers.shape, answers.dtype.name) == ((7, 5), "float32")
        single = np.concatenate([engine.infer({"input": image[None]})["logits"] for image in images(7)])
        np.testing.assert_allclose(answers, single, atol=1e-3)
        assert engine.device_seconds({"input": images(2)}, 3).shape == (3,)


@PRECISIONS
def test_a_build_is_byte_identical_twice(model: Path, precision: Precision) -> None:
    assert build(model, precision).engine_bytes == build(model, precision).engine_bytes


def test_every_layer_really_runs_in_int8(model: Path) -> None:
    built = build(model, Precision.int8)
    assert (built.quantized, built.quantizable, dict(built.layers), list(built.warnings)) == (5, 5, {"INT8": 5}, [])


def test_a_float_fallback_is_named(model: Path) -> None:
    network = onnx.load(model)
    network.graph.node.append(onnx.helper.make_node("MatMul", ["pool", "pool"], ["square"], name="Square"))
    network.graph.node.append(onnx.helper.make_node("Erf", ["square"], ["odd"]))
    network.graph.output.append(onnx.helper.make_tensor_value_info("odd", onnx.TensorProto.FLOAT, ["N", 8, 6, 6]))
    next(node for node in network.graph.node if node.name == "Conv_3").input[1] = "computed"
    network.graph.node.insert(0, onnx.helper.make_node("Abs", ["absolute"], ["computed"]))
    network.graph.node.insert(0, onnx.helper.make_node("Mul", ["w3", "one"], ["absolute"]))
    network.graph.input.append(onnx.helper.make_tensor_value_info("one", onnx.TensorProto.FLOAT, [1]))
    onnx.save(network, model)
    batch = {"input": images(), "one": np.ones(1, np.float32)}
    cache = RUNTIME.calibrate(model, [batch], Calibration(algorithm=CalibrationAlgorithm.minmax))
    built = RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, QuantizationRecipe(cache)))
    assert built.quantized < built.quantizable
    assert any("Conv_3" in warning and "runs in float" in warning for warning in built.warnings)


@pytest.mark.parametrize(
    ("available", "exact"),
    [
        pytest.param(("avx2",), True, id="AVX2 alone saturates in 16 bits"),
        pytest.param(("avx2", "avx512f"), True, id="AVX-512 without VNNI"),
        pytest.param(("avx2", "avx512f", "avx512_vnni"), False, id="AVX512-VNNI"),
        pytest.param(("avx2", "avx_vnni"), False, id="AVX-VNNI"),
        pytest.param(("avx2", "avx512f", "amx_int8"), False, id="AMX"),
        pytest.param(("asimd",), False, id="Arm"),
    ],
)
def test_products_are_exact_where_they_would_saturate(available: tuple[str, ...], exact: bool) -> None:
    assert needs_exact_products(available) is exact
    options = session_options(Purpose.run, available)
    if exact:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")


def test_int8_without_scales_says_what_to_run(model: Path) -> None:
    with pytest.raises(CalibrationMismatch, match="needs a calibration cache; run `dvc repro calibrate`"):
        RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, None))


def test_a_cache_of_another_model_is_refused(model: Path) -> None:
    cache = RUNTIME.calibrate(model, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))
    onnx.save(residual_network(prefix="other_"), model)
    with pytest.raises(CalibrationMismatch, match="belongs to another model"):
        RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, QuantizationRecipe(cache)))


def test_a_model_that_cannot_run_is_one_sentence(model: Path) -> None:
    network = onnx.load(model)
    network.graph.node[1].op_type = "Rlu"
    onnx.save(network, model)
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot run .*Rlu.*see the report of check_onnx"):
        RUNTIME.build(model, BuildJob(Precision.fp32, SETTINGS, None))


def test_a_batch_that_a_node_cannot_take_is_one_sentence(here: Path) -> None:
    nodes = [onnx.helper.make_node("Reshape", ["input", "shape"], ["output"])]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 6]) for name in ("input", "output")
    ]
    graph = onnx.helper.make_graph(
        nodes, "baked", values[:1], values[1:], [onnx.numpy_helper.from_array(np.array([1, 6]), "shape")]
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        here / "model.onnx",
    )
    with load(sealed(here / "model.onnx", Precision.fp32)) as engine:
        assert engine.infer({"input": np.ones((1, 6), np.float32)})["output"].shape == (1, 6)
        for run in (engine.infer, lambda feeds: engine.device_seconds(feeds, 1)):
            with pytest.raises(ModelError, match=r"ONNX Runtime cannot run .* on a batch of 2: .*Reshape"):
                run({"input": np.ones((2, 6), np.float32)})


def test_an_old_opset_is_named_as_it_is(here: Path) -> None:
    model = residual_network()
    model.opset_import[0].version = 9
    onnx.save(model, here / "model.onnx")
    cache = CalibrationCache(Header.minmax, {"input": 0.1})
    with pytest.raises(
        ModelError, match=r"has opset 9, and per-channel Q/DQ needs 13; raise export.opset_version, or convert"
    ):
        RUNTIME.build(here / "model.onnx", BuildJob(Precision.int8, SETTINGS, QuantizationRecipe(cache)))


def test_a_conversion_that_fails_is_not_blamed_on_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_weight_alone(network: onnx.ModelProto) -> onnx.ModelProto:
        half = onnx.ModelProto()
        half.CopyFrom(network)
        weight = next(tensor for tensor in half.graph.initializer if tensor.name == "w2")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16), "w2"))
        return half

    monkeypatch.setattr("enginewright.runtimes.onnxruntime.builder.to_fp16", one_weight_alone)
    with pytest.raises(
        ModelError, match=r"runs .*model.onnx in FP32 and refuses its fp16 form.*Conv_2.*build without fp16"
    ) as caught:
        RUNTIME.build(model, BuildJob(Precision.fp16, SETTINGS, None))
    assert "check_onnx" not in str(caught.value)


def test_an_engine_of_another_machine_is_refused_before_it_is_read(model: Path) -> None:
    here = RUNTIME.fingerprint()
    other = TargetFingerprint(
        "Another CPU", None, here.runtime, here.runtime_version, instruction_sets=here.instruction_sets
    )
    with pytest.raises(StaleArtifact, match="device was 'Another CPU'"):
        load(sealed(model, Precision.fp32, other))


def test_a_flipped_byte_is_refused(model: Path) -> None:
    engine = sealed(model, Precision.fp32)
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    with pytest.raises(StaleArtifact, match="its bytes differ"):
        load(engine)


def test_a_wrong_shape_is_named(model: Path) -> None:
    with (
        load(sealed(model, Precision.fp32)) as engine,
        pytest.raises(EngineInputError, match="'input' must have shape"),
    ):
        engine.infer({"input": images()[:, :, :5]})


def test_an_engine_is_gone_after_its_block(model: Path) -> None:
    with load(sealed(model, Precision.fp32)) as engine:
        pass
    with pytest.raises(EngineInputError, match=r"engine.onnx is closed: its `with` block has ended; load it again"):
        engine.infer({"input": images()})


def test_the_calibrator_moves_between_versions() -> None:
    assert RUNTIME.calibrator_identity() == {}
    assert all(RUNTIME.why_not(task) is None for task in Capability)


def test_a_transposed_map_by_a_vector_is_not_the_map_by_that_vector() -> None:
    """ONNX Runtime 1.32 drops the Transpose in one of its fusions."""
    vector = np.linspace(-1, 2, 5, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 2, 1]),
            onnx.helper.make_node("MatMul", ["turned", "vector"], ["output"]),
        ],
        "vector",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 5, 10])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(vector, "vector")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    pixels = np.random.default_rng(0).normal(size=(2, 5, 10)).astype(np.float32)
    (answer,) = open_session(model.SerializeToString()).run(None, {"input": pixels})
    np.testing.assert_allclose(answer, pixels.transpose(0, 2, 1) @ vector, rtol=1e-4, atol=1e-5)
