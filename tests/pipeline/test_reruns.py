"""The promise of the DAG, through the real dvc: only what is stale runs again, and all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st

from enginewright.toolchain.imports import Library, decides_nothing
from support.project import ROOT, SITE, Project, downstream, readers

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("reruns")]
PROBE = "probe_target"
ALWAYS = {PROBE, "check_toolchain"}  # what runs in each `dvc repro`
KEPT_ON_ANOTHER_TARGET = {
    "calibrate",
    "check_drift",
    "analyze_sensitivity",
    "search_mixed",
}  # a new machine keeps the scales, and what was found with them


def test_second_repro_runs_the_probe_and_the_check_alone(project: Project) -> None:
    before = project.bytes_of("artifacts")
    run = project.repro()
    assert (run.code, run.ran) == (0, ALWAYS), run.output
    assert project.bytes_of("artifacts") == before


def test_calibration_algorithm_reruns_only_what_hangs_on_the_cache(project: Project) -> None:
    engines = project.bytes_of("artifacts/engines/fp32"), project.bytes_of("artifacts/engines/fp16")
    project.configure("calibration=minmax")
    run = project.repro()
    assert run.code == 0, run.output
    assert run.ran == downstream({"calibrate"}) | ALWAYS, run.output
    assert engines == (project.bytes_of("artifacts/engines/fp32"), project.bytes_of("artifacts/engines/fp16"))


def test_another_target_rebuilds_and_the_first_one_comes_back_without_a_build(project: Project) -> None:
    engines = project.bytes_of("artifacts/engines")
    metrics = project.bytes_of("artifacts/metrics")
    on_target = downstream({PROBE}) - KEPT_ON_ANOTHER_TARGET | ALWAYS

    project.environment = {"PYTHONPATH": str(SITE), "OTHER_CPU": "Another CPU @ 1.0 GHz"}
    there = project.repro()
    assert there.code == 0, there.output
    assert there.ran == on_target, there.output
    target = json.loads((project.root / "artifacts/target/target.json").read_text())
    assert target["device"] == "Another CPU @ 1.0 GHz"
    assert project.bytes_of("artifacts/engines") != engines  # the sidecars name the other target

    project.environment = {}
    back = project.repro()
    assert (back.code, back.ran, back.restored) == (0, ALWAYS, on_target - ALWAYS), back.output
    assert project.bytes_of("artifacts/engines") == engines
    assert project.bytes_of("artifacts/metrics") == metrics


def test_null_runtime_goes_through_the_whole_graph_and_says_that_it_computes_nothing(project: Project) -> None:
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("runtime: auto\n", "runtime: 'null'\n"))
    run = project.repro()
    assert (run.code, run.ran) == (0, downstream({PROBE}) - KEPT_ON_ANOTHER_TARGET | ALWAYS), run.output
    assert "The null runtime computes nothing: these are the figures of zeros" in run.output
    accuracy = json.loads((project.root / "artifacts/metrics/validate_accuracy.json").read_text())
    assert {accuracy[precision]["top1"] for precision in ("fp32", "fp16", "int8")} == {0.1}  # of ten balanced classes
    assert accuracy["target"]["runtime"] == "null"
    assert (accuracy["gate"]["verdict"], accuracy["gate"]["if_undecided"]) == (
        "undecided",
        "warn",
    )  # zeros against zeros show nothing


def test_an_engine_of_another_machine_is_refused_where_dvc_does_not_look(project: Project) -> None:
    project.environment = {"PYTHONPATH": str(SITE), "OTHER_CPU": "Another CPU @ 1.0 GHz"}
    run = project.call("python", "-c", "import enginewright; enginewright.load('artifacts/engines/int8/engine.onnx')")
    assert run.code == 1
    assert "StaleArtifact" in run.output
    assert "device was" in run.output


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        pytest.param(
            "enginewright/check_onnx/report.py", {"check_onnx"}, id="check_onnx"
        ),  # its report stays the same, so the builds stay
        pytest.param(
            "enginewright/accuracy/gate.py",
            {"analyze_sensitivity", "search_mixed", "validate_accuracy"},
            id="accuracy",
        ),
    ],
)
def test_a_change_in_a_library_module_reruns_the_stages_that_import_it(
    project: Project, module: str, stale: set[str]
) -> None:
    _append_a_comment(project.root / module)
    project.lock()
    run = project.repro()
    assert (run.code, run.ran) == (0, stale | ALWAYS), run.output


def _append_a_comment(path: Path) -> None:
    path.write_text(path.read_text() + "\n# a comment decides no byte, but only a run can show that\n")


SLOWLY = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
LIBRARY = Library(ROOT / "enginewright")
MODULES = sorted(
    name for name, path in LIBRARY.modules.items() if not decides_nothing(name) and not LIBRARY.is_empty(path)
)


@SLOWLY
@given(module=st.sampled_from(MODULES))
def test_dvc_calls_stale_every_stage_that_executes_a_changed_module(reproduced: Project, module: str) -> None:
    path = reproduced.root / LIBRARY.path(module)
    before, locked = path.read_text(), (reproduced.root / "toolchain.yaml").read_text()
    try:
        _append_a_comment(path)
        refused = reproduced.repro()
        assert refused.code != 0
        assert f"{LIBRARY.path(module)} changed: run `make sync`, which makes " in refused.output
        assert not refused.ran - {"check_toolchain"}, refused.output
        reproduced.lock()
        stale = _changed_deps(reproduced, lambda dep: dep == "toolchain.yaml")
    finally:
        path.write_text(before)
        (reproduced.root / "toolchain.yaml").write_text(locked)
    assert stale == {name for name in LIBRARY.scripts if module in executed(name)}


def executed(stage: str) -> set[str]:
    """The modules that a stage of the default configuration may execute: `auto` may come to any runtime but null."""
    reach = LIBRARY.reach(f"stages.{stage}")
    members = [("tasks", "classification")] if "tasks" in reach.kinds else []
    if "runtimes" in reach.kinds:
        names = ("onnxruntime",) if stage == "calibrate" else ("onnxruntime", "tensorrt", "tensorrt_rtx")
        members += [("runtimes", name) for name in names]
    return reach.modules.union(*(LIBRARY.reach(LIBRARY.members(kind)[name]).modules for kind, name in members))


def _changed_deps(project: Project, concerns: Callable[[str], bool]) -> set[str]:
    """The stages of which `dvc status` says that such a dep has changed."""
    output = project.call("dvc", "status", "--json").output
    status: dict[str, list[Any]] = json.loads(output[output.index("{") :])
    return {
        name
        for name, causes in status.items()
        for cause in causes
        if isinstance(cause, dict) and any(concerns(dep) for dep in cause.get("changed deps", {}))
    }


def _leaves(node: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        leaf
        for name, value in node.items()
        for leaf in (_leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"])
    ]


PARAMS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
CHANGES: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value * 1.5 + 0.01,
    str: lambda value: value + "x",
}


@SLOWLY
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
        if change is not None and key not in {
            "model.code",
            "model.weights",
            "data.root",
        }:  # those are paths that dvc.yaml lists as deps
            section[leaf] = change(section[leaf])
            edited.add(key)
    try:
        params_file.write_text(yaml.safe_dump(params, sort_keys=False))
        stale = _changed_deps(reproduced, lambda dep: dep in ("params.yaml", "toolchain.yaml"))
    finally:
        params_file.write_text(original)
    assert stale == set().union(*map(readers, edited)), edited


EDITS = {
    "accuracy.batch_size": "7",
    "accuracy.confidence": "0.9",
    "benchmark.batch_size": "3",
    "axes.batch.opt": "16",
    "calibration.batch_size": "10",
    "calibration.percentile": "99.9",
    "check_drift.distance": "0.3",
    "export.tolerance": "0.001",
    "profile_layers.runs": "4",
}


@settings(SLOWLY, max_examples=1)
@given(keys=st.lists(st.sampled_from(sorted(EDITS)), min_size=2, max_size=2, unique=True))
def test_what_runs_after_an_edit_follows_the_graph(project: Project, keys: list[str]) -> None:
    before: list[str] = []
    for key in keys:
        project.configure(f"{key}={EDITS[key]}")  # and the one before goes back
        edited = set().union(*map(readers, [key, *before]))
        run = project.repro()
        assert run.code == 0, run.output
        # A stage below may be skipped where what it reads came out byte-identical, and none beside the graph may run.
        assert edited | ALWAYS <= run.ran | run.restored <= downstream(edited) | ALWAYS, run.output
        before = [key]
