"""The promise of the DAG, through the real dvc: only what is stale runs again, and all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.project import SITE, Project, Run, downstream, readers, stages

pytestmark = pytest.mark.pipeline
PROBE = "probe_target"


def test_second_repro_runs_the_probe_alone(project: Project) -> None:
    before = project.bytes_of("artifacts")
    run = project.repro()
    assert (run.code, run.ran) == (0, {PROBE}), run.output
    assert project.bytes_of("artifacts") == before


def test_calibration_algorithm_reruns_only_what_hangs_on_the_cache(project: Project) -> None:
    engines = project.bytes_of("artifacts/engines/fp32"), project.bytes_of("artifacts/engines/fp16")
    project.configure("calibration=minmax")
    run = project.repro()
    assert run.code == 0, run.output
    assert run.ran == {PROBE, "calibrate", "build_int8", "validate_accuracy", "profile_layers", "benchmark_sustained"}, run.output
    assert engines == (project.bytes_of("artifacts/engines/fp32"), project.bytes_of("artifacts/engines/fp16"))


def test_another_target_rebuilds_and_the_first_one_comes_back_without_a_build(project: Project) -> None:
    engines = project.bytes_of("artifacts/engines")
    metrics = project.bytes_of("artifacts/metrics")
    on_target = downstream({PROBE}) - {"calibrate"}  # a new machine keeps the scales

    project.environment = {"PYTHONPATH": str(SITE), "OTHER_CPU": "Another CPU @ 1.0 GHz"}
    there = project.repro()
    assert there.code == 0, there.output
    assert there.ran == on_target, there.output
    target = json.loads((project.root / "artifacts/target/target.json").read_text())
    assert target["device"] == "Another CPU @ 1.0 GHz"
    assert project.bytes_of("artifacts/engines") != engines  # the sidecars name the other target

    project.environment = {}
    back = project.repro()
    assert (back.code, back.ran, back.restored) == (0, {PROBE}, on_target - {PROBE}), back.output
    assert project.bytes_of("artifacts/engines") == engines
    assert project.bytes_of("artifacts/metrics") == metrics


def test_an_engine_of_another_machine_is_refused_where_dvc_does_not_look(project: Project) -> None:
    project.environment = {"PYTHONPATH": str(SITE), "OTHER_CPU": "Another CPU @ 1.0 GHz"}
    run = project.call("python", "-c", "import enginewright; enginewright.load('artifacts/engines/int8/engine.onnx')")
    assert run.code == 1
    assert "StaleArtifact" in run.output
    assert "device was" in run.output


@pytest.mark.parametrize("module", ["enginewright/check_onnx.py", "enginewright/accuracy/metrics.py", "enginewright/calibration/qdq.py"])
def test_a_change_in_a_library_module_reruns_the_stages_that_import_it(project: Project, module: str) -> None:
    importing = {name for name, stage in stages().items() if any(module == dep or module.startswith(f"{dep}/") for dep in map(str, stage["deps"]))}
    path = project.root / module
    path.write_text(path.read_text() + "\n# a comment decides no byte, but only a run can show that\n")
    run = project.repro()
    assert run.code == 0, run.output
    assert importing | {PROBE} <= run.ran <= downstream(importing) | {PROBE}, run.output
    assert importing, f"no stage imports {module}"


def _leaves(node: dict[str, Any], prefix: str = "") -> list[str]:
    return [leaf for name, value in node.items() for leaf in (_leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"])]


PARAMS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
CHANGES: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value * 1.5,
    str: lambda value: value + "x",
}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None)
@given(keys=st.lists(st.sampled_from(_leaves(PARAMS)), min_size=1, max_size=3, unique=True))
def test_dvc_calls_stale_exactly_the_readers_of_an_edited_param(reproduced: Project, keys: list[str]) -> None:
    params_file = reproduced.root / "params.yaml"
    original = params_file.read_text()
    params = yaml.safe_load(original)
    edited = set()
    for key in keys:
        *parents, leaf = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        change = CHANGES.get(type(section[leaf]))
        if change is not None and key not in {"model.code", "model.weights", "data.root"}:  # those are paths that dvc.yaml lists as deps
            section[leaf] = change(section[leaf])
            edited.add(key)
    try:
        params_file.write_text(yaml.safe_dump(params, sort_keys=False))
        status = json.loads(_json_part(reproduced.call("dvc", "status", "--json")))
    finally:
        params_file.write_text(original)
    by_params = {name for name, causes in status.items() if any(isinstance(cause, dict) and "params.yaml" in cause.get("changed deps", {}) for cause in causes)}
    assert by_params == set().union(*map(readers, edited)), edited


def _json_part(run: Run) -> str:
    return run.output[run.output.index("{") :]


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None)
@given(
    edit=st.sampled_from(
        [
            ("accuracy.batch_size", "7"),
            ("accuracy.confidence", "0.9"),
            ("benchmark.batch_size", "3"),
            ("profile_layers.runs", "4"),
            ("build.profile.opt", "16"),
            ("calibration.percentile", "99.9"),
            ("calibration.batch_size", "10"),
            ("export.tolerance", "0.001"),
            ("data.selection", "random"),
        ]
    )
)
def test_what_runs_after_an_edit_follows_the_graph(project: Project, edit: tuple[str, str]) -> None:
    key, value = edit
    assert project.repro().code == 0
    project.configure(f"{key}={value}")
    run = project.repro()
    assert run.code == 0, run.output
    # A stage below may be skipped where what it reads came out byte-identical, and none beside the graph may run.
    assert readers(key) | {PROBE} <= run.ran | run.restored <= downstream(readers(key)) | {PROBE}, run.output
    project.configure()
    assert project.repro().code == 0
