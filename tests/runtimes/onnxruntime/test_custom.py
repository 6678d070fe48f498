"""Kernels of custom operators in a session: a library and a Python twin, INT8, and what is refused before it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright import manifest
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision
from enginewright.errors import ModelError, RuntimeUnavailable, StaleArtifact
from enginewright.plugins import Plugin, Plugins
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.session import open_session
from support import plugins as squash

KINDS = ("onnxruntime", "python")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_computes_it_however_often_it_is_opened(kind: str) -> None:
    x = squash.images(2)["input"]
    node = onnx.helper.make_node(squash.OPERATOR, ["x"], ["y"], domain=squash.DOMAIN)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 8, 8]) for name in "xy"]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(squash.DOMAIN, 1)]
    graph = onnx.helper.make_graph([node], "one", values[:1], values[1:])
    made = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    for _ in range(2):
        (y,) = open_session(made, plugins=squash.plugins(kind)).run(None, {"x": x})
        np.testing.assert_allclose(y, x / (1 + np.abs(x)), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_around_it_run_in_int8(kind: str, tmp_path: Path) -> None:
    path, kernels = tmp_path / "model.onnx", squash.plugins(kind)
    onnx.save(squash.model(), path)
    batches = [squash.images(16, seed) for seed in range(4)]
    settings = Calibration(algorithm=CalibrationAlgorithm.minmax)
    scales = RUNTIME.calibrate(path, batches, settings, kernels)
    assert set(scales.scales) == {"input", "a", "s", "c", "r", "m", "logits"}
    built = RUNTIME.build(
        path, BuildJob(Precision.int8, Build(), recipe=QuantizationRecipe(scales, None), plugins=kernels)
    )
    assert (built.quantized, built.quantizable) == (3, 3)
    (expected,) = open_session(str(path), plugins=kernels).run(None, batches[0])
    engine = tmp_path / "engine.onnx"
    engine.write_bytes(built.engine_bytes)
    (got,) = open_session(str(engine), plugins=kernels).run(None, batches[0])
    noise = float(np.square(expected - got).mean() / np.square(expected).mean())
    assert -10 * np.log10(noise) > 30
    float_nodes = [node for node in onnx.load(engine).graph.node if node.domain == squash.DOMAIN]
    assert [node.op_type for node in float_nodes] == [squash.OPERATOR]


def one(kind: str, path: Path) -> Plugins:
    return Plugins((Plugin(kind, path, manifest.sha256(path)),))


def test_a_file_that_was_changed_is_not_executed(tmp_path: Path) -> None:
    squash.twin()
    path, witness = tmp_path / "ops.py", tmp_path / "it ran"
    path.write_text("")
    recorded = one("python", path)
    path.write_text(f"open({str(witness)!r}, 'w').close()\n")
    with pytest.raises(StaleArtifact, match=r"ops.py was changed: .* and it is not loaded"):
        open_session(squash.model().SerializeToString(), plugins=recorded)
    assert not witness.exists()


def test_a_library_that_does_not_load_is_named(tmp_path: Path) -> None:
    path = tmp_path / "libops.so"
    path.write_bytes(b"no library at all")
    with pytest.raises(RuntimeUnavailable, match=r"cannot load .*libops.so: .*; compile it for this machine, or bring"):
        open_session(squash.model().SerializeToString(), plugins=one("onnxruntime", path))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        pytest.param(
            "x = 1\nraise KeyError('scale')\n",
            r"ops.py, a file of model.plugins.python, raises KeyError in line 2: 'scale'; mend it",
            id="it raises",
        ),
        pytest.param("def broken(:\n", r"ops.py, .* raises SyntaxError in line 1: ", id="it is no Python"),
        pytest.param(
            "import sys\nsys.path.insert(0, HERE)\nimport own_helper_of_ops\n",
            r"ops.py, .* imports own_helper_of_ops \(.*\), which DVC does not see and the engine does not carry; put",
            id="it imports a file of the user's",
        ),
    ],
)
def test_a_python_file_is_refused(code: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squash.twin()
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_helper_of_ops.py").write_text("")
    path = tmp_path / "ops.py"
    path.write_text(code.replace("HERE", repr(str(tmp_path))))
    with pytest.raises(ModelError, match=sentence):
        open_session(squash.model().SerializeToString(), plugins=one("python", path))
