"""Every path of a project, from its root."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from enginewright import manifest
from enginewright.build import build_engine
from enginewright.config import Params, Precision
from enginewright.errors import StaleArtifact
from enginewright.layout import ARTIFACTS, MAKERS, SEALED, Layout, stage_of
from enginewright.stage import Stage
from support.checked_model import write_model, write_target
from support.project import ROOT, stages


def test_paths_are_relative_in_the_current_folder_and_below_the_root_elsewhere(tmp_path: Path) -> None:
    assert Layout().model == Path("artifacts/onnx/model.onnx")
    assert Layout(tmp_path).model == tmp_path / "artifacts/onnx/model.onnx"
    assert Layout(tmp_path).engine("int8", "engine.trt") == tmp_path / "artifacts/engines/int8/engine.trt"
    assert Layout(tmp_path).metrics_of("pareto") == tmp_path / "artifacts/metrics/pareto.json"


@pytest.mark.parametrize(
    ("root", "path", "name"),
    [
        pytest.param(
            "", "artifacts/onnx/model.onnx", "artifacts/onnx/model.onnx", id="relative, in the current project"
        ),
        pytest.param("/a/car", "/a/car/artifacts/x", "artifacts/x", id="absolute, in the project"),
        pytest.param("/a/car", "/a/car/../lib/net.py", "../lib/net.py", id="beside the project, as it was named"),
        pytest.param("/a/car", "/b/weights.pt", "/b/weights.pt", id="elsewhere"),
        pytest.param("car", "car/net.py", "net.py", id="a project below the current folder"),
        pytest.param("", "../lib/net.py", "../lib/net.py", id="beside the current project"),
    ],
)
def test_a_file_is_named_relative_to_its_project(root: str, path: str, name: str) -> None:
    assert Layout(Path(root)).name(Path(path)) == name


def test_sealed_names_artifacts_of_any_project() -> None:
    assert "artifacts/onnx/model.onnx" in SEALED
    assert not any(Path(pattern).is_absolute() for pattern in SEALED)


def test_sidecars_of_two_projects_say_the_same_whatever_the_current_folder(tmp_path: Path) -> None:
    sidecars = []
    for name in ("car", "drone"):
        project = Layout(tmp_path / name)
        project.model.parent.mkdir(parents=True)
        project.model.write_bytes(b"model")
        project.calibration_cache.parent.mkdir(parents=True)
        project.calibration_cache.write_bytes(b"scales")
        manifest.seal(project.model, "export", [], project=project)
        manifest.seal(project.calibration_cache, "calibrate", [project.model], project=project)
        sidecars.append(manifest.sidecar(project.calibration_cache).read_bytes())
        made = manifest.verify(project.calibration_cache)
        assert (made.path, list(made.inputs)) == ("artifacts/calibration/calib.cache", ["artifacts/onnx/model.onnx"])
    assert sidecars[0] == sidecars[1]


def test_two_projects_work_in_one_process(tmp_path_factory: pytest.TempPathFactory, here: Path) -> None:
    """Each is built and verified by paths that its root decides; the current folder is a third one."""
    tmp_path = tmp_path_factory.mktemp("projects")
    params, digests = Params(runtime="null"), {}
    for seed, name in enumerate(("car", "drone")):
        project = Layout(tmp_path / name)
        write_model(seed, paths=project)
        write_target("null", paths=project)
        build_engine(Stage("build_fp32", params, project), Precision.fp32)
        engine = project.engine("fp32", "engine.null")
        made = manifest.verify(engine)
        assert (made.path, list(made.inputs)) == ("artifacts/engines/fp32/engine.null", ["artifacts/onnx/model.onnx"])
        digests[name] = made.inputs["artifacts/onnx/model.onnx"]
        assert manifest.root_of(engine, made) == project.root
    assert digests["car"] != digests["drone"]
    Layout(tmp_path / "car").model.write_bytes(b"other")
    assert manifest.verify(Layout(tmp_path / "drone").engine("fp32", "engine.null"))
    with pytest.raises(StaleArtifact, match=r"it was made from another artifacts/onnx/model\.onnx"):
        manifest.verify(Layout(tmp_path / "car").engine("fp32", "engine.null"))
    assert list(here.iterdir()) == []


FROM_THE_CURRENT_FOLDER = {"cwd", "getcwd", "chdir"}
ENTRIES = {"enginewright/stage.py", "enginewright/layout.py"}  # of a stage in its project, and what knows the paths


def folder_readers(path: Path) -> Iterator[str]:
    """Where a module reads the current folder, or says where a project keeps an artifact."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in FROM_THE_CURRENT_FOLDER:
            yield f"{path.name}:{node.lineno} .{node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Path":
            named = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if any(isinstance(name, str) and name.startswith((f"{ARTIFACTS}/", ".cache")) for name in named):
                yield f"{path.name}:{node.lineno} {named[0]!r}"


def test_only_commands_and_stage_scripts_read_the_current_folder() -> None:
    library = (ROOT / "enginewright").rglob("*.py")
    rest = [path for path in library if path.relative_to(ROOT).as_posix() not in ENTRIES and "cli" not in path.parts]
    assert len(rest) > 100
    assert [found for path in rest for found in folder_readers(path)] == []


@pytest.mark.parametrize("line", ["Path.cwd()", "os.getcwd()", 'os.chdir("x")', 'Path("artifacts/onnx/model.onnx")'])
def test_such_a_line_would_be_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "module.py").write_text(line)
    assert len(list(folder_readers(tmp_path / "module.py"))) == 1


def test_each_folder_is_said_to_be_made_by_the_stage_that_dvc_yaml_has() -> None:
    makers = {
        next(iter(out)) if isinstance(out, dict) else str(out): name
        for name, stage in stages().items()
        for out in stage.get("outs", [])
    }
    assert {out: stage_of(Path(out) / "file") for out in makers} == makers
    assert set(MAKERS) == {Path(out).parts[1] for out in makers} - {"engines"}


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("/a/car/artifacts/engines/int8/engine.trt", "build_int8"),
        ("artifacts/metrics/pareto.json", "pareto"),
        ("artifacts/of_mine/table.csv", None),
        ("engine.trt", None),
        ("artifacts", None),
    ],
)
def test_the_stage_that_makes_a_file_is_known_by_its_folder(path: str, stage: Optional[str]) -> None:
    assert stage_of(Path(path)) == stage
