"""An existing ONNX file through the real dvc: from a file of an old opset and a batch of 1 to the gate's verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from support.onnx_files import normal, parsed
from support.project import Project, checkout, stages

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("onnx")]
SETTINGS = ("model=onnx", "model.task=outputs", "model.name=old")
GRAPH = """g (float[1, 1, 28, 28] image) => (float[1, 10] scores, float[1, 8] features) {
    a = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(image, w1) b = Relu(a)
    c = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(b, w2) d = Relu(c)
    p = GlobalAveragePool(d) features = Reshape(p, shape) scores = MatMul(features, w3)
}"""


def old_file(path: Path) -> None:
    weights = {
        "w1": normal(6, 1, 3, 3) / 3,
        "w2": normal(8, 6, 3, 3, seed=1) / 7,
        "shape": np.array([1, 8]),
        "w3": normal(8, 10, seed=2) / 3,
    }
    model = parsed(GRAPH, weights, opset=11, ir_version=6)
    helper.set_model_props(model, {"license": "Apache-2.0", "author": "Somebody"})
    onnx.save(model, str(path))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("onnx") / "project"
    root.mkdir()
    checkout(root)
    old_file(root / "model.onnx")
    made = Project(root)
    made.configure(*SETTINGS)
    made.git("init", "-q")
    run = made.repro()
    assert run.code == 0, run.output
    assert run.ran == set(stages()), run.output
    assert "export: the file's metadata names a licence of Somebody: Apache-2.0" in run.output
    assert "export: the batch of 1 in 'image' is freed" in run.output
    return made


def metrics(project: Project, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / f"artifacts/metrics/{stage}.json").read_text())
    return found


def test_every_engine_is_judged_and_passes(project: Project) -> None:
    judged = metrics(project, "gate")
    assert judged["passed"], judged


def test_the_export_is_of_the_configured_opset_with_a_dynamic_batch_and_the_licence(project: Project) -> None:
    found = metrics(project, "export")
    assert found["opset_version"] == 17
    assert found["licence"] == "Apache-2.0"
    assert max(found["max_relative_difference"].values()) < 1e-5
    sidecar = json.loads((project.root / "artifacts/onnx/model.onnx.json").read_text())
    assert sidecar["settings"]["licence"] == "Apache-2.0"
    assert sidecar["interface"]["inputs"][0]["shape"] == ["batch", 1, 28, 28]
    assert [spec["name"] for spec in sidecar["interface"]["outputs"]] == ["scores", "features"]


def test_another_file_is_exported_again(project: Project) -> None:
    model = onnx.load(project.root / "model.onnx")
    model.graph.node.add(op_type="Tanh", input=["scores"], output=["squashed"])
    model.graph.output[0].name = "squashed"
    onnx.save(model, str(project.root / "model.onnx"))
    assert "model.onnx" in project.call("dvc", "status", "export").output


def test_configure_refuses_what_is_no_onnx(project: Project) -> None:
    (project.root / "broken.onnx").write_bytes(b"PK\x03\x04 not a model")
    run = project.call("python", "-m", "enginewright.cli", "configure", *SETTINGS, "model.path=broken.onnx")
    assert run.code == 2
    assert "broken.onnx is a zip archive that is damaged instead of ONNX" in run.output
