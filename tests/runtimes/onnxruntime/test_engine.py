"""Engines that are sessions: loaded, fed, refused, closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright import load
from enginewright.config import Precision
from enginewright.errors import EngineInputError, ModelError, StaleArtifact
from enginewright.runtimes.base import Capability
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.target import TargetFingerprint
from support.networks import images
from support.onnx_engines import sealed

PRECISIONS = pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.name)


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
