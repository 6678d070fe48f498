"""`dvc exp run --queue`: each point composes conf/ again and runs in a checkout of its own, from the library of that
checkout.
"""

from __future__ import annotations

import io

import pandas as pd
import pytest

from support.project import Project

pytestmark = [pytest.mark.pipeline, pytest.mark.full, pytest.mark.xdist_group("reruns")]


def test_a_queued_sweep_runs_every_point_and_leaves_the_workspace_alone(project: Project) -> None:
    workspace = project.bytes_of("artifacts")
    params = (project.root / "params.yaml").read_bytes()
    queued = project.call(
        "dvc",
        "exp",
        "run",
        "--queue",
        "-S",
        "debug=smoke",
        "-S",
        "calibration=entropy,minmax",
        "-S",
        "data.calibration_images=50",
    )
    assert queued.code == 0, queued.output
    run = project.call("dvc", "exp", "run", "--run-all")
    assert run.code == 0, run.output
    assert run.output.count("Running stage 'calibrate'") == 1, (
        run.output
    )  # entropy is what the workspace holds: nothing of it runs but the probe
    table = _table(project)
    assert set(table["calibration.algorithm"]) == {"entropy", "minmax"}
    assert set(table["data.calibration_images"]) == {50}
    for figure in ("int8.top1", "int8.agreement", "int8.single_stream.latency_ms_p99"):
        assert table[figure].notna().all()
    assert project.bytes_of("artifacts") == workspace
    assert (project.root / "params.yaml").read_bytes() == params


def test_a_grid_of_calibrations_becomes_a_table_and_no_training(project: Project) -> None:
    sweep = [
        "-S",
        "debug=smoke",
        "-S",
        "accuracy=report_only",
        "-S",
        "data.calibration_images=20,50",
        "-S",
        "data.selection=random",
    ]
    queued = project.call("dvc", "exp", "run", "--queue", *sweep, "-S", "data.selection_seed=1,2", "validate_accuracy")
    assert queued.code == 0, queued.output
    run = project.call("dvc", "exp", "run", "--run-all")
    assert run.code == 0, run.output
    assert run.output.count("Running stage 'prepare_data'") == run.output.count("Running stage 'calibrate'") == 4
    assert "Running stage 'train_reference'" not in run.output, "other calibration images change no training image"
    assert "Running stage 'benchmark_sustained'" not in run.output
    shown = project.call("python", "-m", "enginewright.cli", "calibrations", "--csv", "grid.csv")
    assert shown.code == 0, shown.output
    table = pd.read_csv(project.root / "grid.csv")
    assert sorted(zip(table["algorithm"], table["images"], table["selection"], table["seeds"], strict=True)) == [
        ("entropy", 20, "random", 2),
        ("entropy", 50, "random", 2),
    ]
    assert table["mean"].between(0, 1).all()
    assert table["sqnr_mean"].notna().all()


def _table(project: Project) -> pd.DataFrame:
    shown = project.call("dvc", "exp", "show", "--csv", "--no-pager")
    assert shown.code == 0, shown.output
    table = pd.read_csv(io.StringIO(shown.output[shown.output.index("Experiment") :]))
    return table[table["rev"] != "workspace"].dropna(subset=["Experiment"])
