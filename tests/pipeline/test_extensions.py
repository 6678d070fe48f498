"""A project with a package of its own, outside this repository: a runtime, a task, a source, an importer and a recipe,
one file each, known by entry points alone. The real dvc runs it up to a verdict.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.project import ROOT, Project

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("extensions")]
TOYS = Path(__file__).parent / "toys"
ENTRY_POINTS = {
    "runtimes": "plain = toys.plain:RUNTIME",
    "tasks": "directions = toys.directions:TASK",
    "sources": "stripes = toys.stripes:stripes",
    "importers": "written = toys.written:written",
    "recipes": "inverted = toys.inverted:Inverted",
}
SETTINGS = (
    *("runtime=plain", "model.task=directions", "data.source=stripes", "data.root=data/stripes"),
    *("model.source=written", "data.preprocessing.recipe=inverted", "data.preprocessing.size=[8,8]"),
    *("model.name=edges", "model.code=edges.txt", "model.weights=edges.json", "model.weights_from=file"),
    *(
        "model.inputs.input.shape=[batch,1,8,8]",
        "data.train_images=0",
        "data.calibration_pool=40",
        "data.calibration_images=20",
    ),
    *("data.sensitivity_images=20", "data.validation_images=80"),
    *("build.precisions=[fp32,fp16]", "accuracy.gated=[fp16]"),
)
KERNELS = [[[1, 1], [-1, -1]], [[1, -1], [1, -1]]]  # what level and upright edges answer to


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, before its first `dvc repro`."""
    folder = tmp_path_factory.mktemp("extended")
    site = folder / "site"
    shutil.copytree(TOYS, site / "toys", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    groups = (f"[enginewright.{kind}]\n{line}\n" for kind, line in ENTRY_POINTS.items())
    (info / "entry_points.txt").write_text("".join(groups))
    root = folder / "project"
    shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("__pycache__", "selected.yaml"))
    shutil.copytree(ROOT / "layers", root / "layers")
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root)
    (root / "data/stripes").mkdir(parents=True)
    (root / "data/stripes/count.txt").write_text("140")
    (root / "edges.txt").write_text("two kernels of edges.json")
    (root / "edges.json").write_text(json.dumps(KERNELS))
    project = Project(root, {"PYTHONPATH": os.pathsep.join(map(str, (site, ROOT)))})
    project.git("init", "-q")
    project.configure(*SETTINGS)
    project.lock()
    return project


def metrics(project: Project, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / f"artifacts/metrics/{stage}.json").read_text())
    return found


def test_one_file_each_and_no_edit_of_the_library_reach_a_verdict(extended: Project) -> None:
    run = extended.repro("validate_accuracy")
    assert run.code == 0, run.output
    assert {"prepare_data", "export", "check_onnx", "build_fp32", "build_fp16", "validate_accuracy"} <= run.ran
    assert metrics(extended, "prepare_data")["validation"]["images"] == 80
    found = metrics(extended, "validate_accuracy")
    assert found["fp32"]["seen"] == 1.0
    assert found["gate"]["figure"] == "seen"
    assert (extended.root / "artifacts/engines/fp16/engine.onnx").exists()


def test_a_name_that_nobody_declares_is_refused_with_the_nearest(extended: Project) -> None:
    run = extended.call("python", "-m", "enginewright.cli", "configure", "data.source=stripe")
    assert run.code == 2
    assert "data.source: 'stripe' is not a choice; did you mean 'stripes'?" in run.output


def test_an_edit_of_the_package_makes_stale_what_executes_it(extended: Project) -> None:
    code = extended.root.parent / "site/toys/directions.py"
    code.write_text(code.read_text() + "# another line\n")
    refused = extended.repro("validate_accuracy")
    assert refused.code != 0
    assert "enginewright lock" in refused.output
    assert "validate_accuracy" in extended.lock()
