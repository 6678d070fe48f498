"""The harness of every stage script: exit codes, undeclared params, overrides, whole outputs, the device lock, no
orphans.
"""

from __future__ import annotations

import json
import operator
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from enginewright import manifest, stage
from enginewright.config import Params
from enginewright.errors import ConfigError, StaleArtifact
from enginewright.layout import Layout
from enginewright.stage import Declared, Stage, UndeclaredParam
from support.project import ROOT
from support.waiting import HANG_SECONDS, gone, until

HEAD = (
    "import os, sys, time\nfrom pathlib import Path\nfrom enginewright.errors import DataError\nfrom enginewright.stage"
    " import Stage, script\n"
)


@pytest.fixture
def project(configured: Path) -> Path:
    """A project of one stage, `calibrate`, whose body a test writes."""
    declared = {
        "stages": {
            "calibrate": {
                "cmd": "exec python -m stages.calibrate",
                "params": ["seed", "data.preprocessing", "calibration.algorithm"],
            }
        }
    }
    (configured / "dvc.yaml").write_text(yaml.safe_dump(declared))
    (configured / "stages").mkdir()
    return configured


def command(project: Path, body: str, *arguments: str) -> list[str]:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (project / "stages/calibrate.py").write_text(
        f'{HEAD}@script\ndef calibrate(stage: Stage):\n{lines}if __name__ == "__main__":\n    calibrate()\n'
    )
    return [sys.executable, "stages/calibrate.py", *arguments]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def call(project: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(project, body, *arguments),
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_a_stage_returns_is_its_metrics_and_nothing_else_is_left(project: Path) -> None:
    before = files(project) | {"stages/calibrate.py"}
    answer = call(project, "return {'seed': stage.params.seed, 'size': list(stage.params.data.preprocessing.size)}")
    assert answer.returncode == 0, answer.stderr
    assert json.loads((project / "artifacts/metrics/calibrate.json").read_text()) == {"seed": 0, "size": [28, 28]}
    assert files(project) - before == {"artifacts/metrics/calibrate.json"}


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        pytest.param(
            "raise DataError('the folder x holds no images; add some')",
            2,
            "error: calibrate: the folder x holds no images; add some\n",
            id="user-fault",
        ),
        pytest.param("raise KeyError('x')", 1, "Traceback", id="bug"),
        pytest.param(
            "stage.params.train.epochs",
            1,
            "stage calibrate reads train, which dvc.yaml does not list",
            id="undeclared-section",
        ),
        pytest.param(
            "stage.params.calibration.bins",
            1,
            "stage calibrate reads calibration.bins, which dvc.yaml does not list",
            id="undeclared-key",
        ),
        pytest.param("return {'top1': float('nan')}", 1, "not JSON compliant", id="nan-metric"),
        pytest.param(
            "open('/dev/full', 'wb', buffering=0).write(b'x')",
            2,
            "error: calibrate: no space left on the disk",
            id="full-disk",
        ),
        pytest.param(
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(),"
            " signal.SIGINT); time.sleep(3600)",
            130,
            "error: calibrate: interrupted",
            id="interrupted",
        ),
    ],
)
def test_exit_codes(project: Path, body: str, code: int, text: str) -> None:
    answer = call(project, body)
    assert answer.returncode == code, answer.stderr
    assert text in answer.stderr
    assert ("Traceback" in answer.stderr) == (code == 1)
    assert not (project / "artifacts/metrics/calibrate.json").exists()


@pytest.mark.parametrize("override", ["seed=5", "+seed=5", "++data.root=x", "~data", "calibration.algorithm=minmax"])
def test_an_override_that_dvc_would_not_see_is_refused(project: Path, override: str) -> None:
    answer = call(project, "Path('ran').touch()", override)
    assert answer.returncode == 2, answer.stderr
    assert f"the override {override} would not be seen by DVC" in answer.stderr
    assert not (project / "ran").exists()


def test_a_stage_is_a_hydra_app_that_leaves_nothing_behind(project: Path) -> None:
    before = files(project) | {"stages/calibrate.py"}
    answer = call(project, "Path('ran').touch()", "--cfg", "job")
    assert answer.returncode == 0, answer.stderr
    assert yaml.safe_load(answer.stdout) == yaml.safe_load((project / "params.yaml").read_text())
    assert files(project) == before


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        pytest.param("params.yaml", "params.yaml does not exist", id="no-params"),
        pytest.param("dvc.yaml", "dvc.yaml does not exist", id="no-pipeline"),
    ],
)
def test_outside_of_the_project_it_says_where_to_go(project: Path, spoil: str, text: str) -> None:
    (project / spoil).unlink()
    answer = call(project, "pass")
    assert answer.returncode == 2, answer.stderr
    assert text in answer.stderr


def test_a_stage_that_dvc_yaml_does_not_know(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"dvc\.yaml has no stage 'calibrat'"):
        stage.declared("calibrat", project / "dvc.yaml")


def test_declared_params() -> None:
    params = Declared(Params(), ["seed", "build", "data.preprocessing", "benchmark.seconds"], "example")
    assert params.seed == 0
    assert params.build == Params().build  # declared as a whole: the plain dataclass, for the library's functions
    assert params.data.preprocessing.size == [28, 28]
    assert params.benchmark.seconds == 10.0
    for key in ("runtime", "data.root", "data.source", "benchmark.batch_size", "model"):
        with pytest.raises(UndeclaredParam, match=f"stage example reads {key}, which"):
            operator.attrgetter(key)(params)
    with pytest.raises(AttributeError):
        _ = params.no_such_setting


def test_an_output_is_whole_and_sealed_or_absent(here: Path) -> None:
    (here / "model.onnx").write_bytes(b"model")
    running = Stage("build_fp32", Params(), Layout())

    def write(fail: bool) -> None:
        settings: dict[str, object] = {}
        with running.output(Path("engine.trt"), [Path("model.onnx")], settings=settings) as path:
            path.write_bytes(b"half")
            settings["layers"] = 3
            if fail:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(fail=True)
    assert files(here) == {"model.onnx"}
    write(fail=False)
    assert manifest.verify(Path("engine.trt")).settings == {"layers": 3}
    assert files(here) == {"model.onnx", "engine.trt", "engine.trt.json"}


def test_tables_that_belong_together_are_sealed_by_one(here: Path) -> None:
    running = Stage("profile_layers", Params(), Layout())
    Path("engine.trt").write_bytes(b"engine")
    tables = {"layers.csv": pd.DataFrame({"layer": ["conv"]}), "top.csv": pd.DataFrame({"ms": [1.5]})}
    running.tables(Path("profile"), tables, [Path("engine.trt")], sealed="layers.csv")
    assert files(here / "profile") == {"layers.csv", "layers.csv.json", "top.csv"}
    made = manifest.verify(Path("profile/layers.csv"))
    assert (list(made.inputs), {name: record.role for name, record in made.files.items()}) == (
        ["engine.trt"],
        {"top.csv": "table"},
    )
    Path("profile/top.csv").write_text("ms\n0.1\n")
    with pytest.raises(StaleArtifact, match=r"top\.csv beside it was changed"):
        manifest.verify(Path("profile/layers.csv"))


def test_tables_of_an_interrupted_run_have_no_sidecar(here: Path) -> None:
    running = Stage("benchmark_sustained", Params(), Layout())
    running.tables(Path("benchmark"), {"windows.csv": pd.DataFrame({"queries": [3]})}, [], sealed=None)
    assert files(here / "benchmark") == {"windows.csv"}


def test_two_stages_take_turns_on_a_device(project: Path) -> None:
    body = (
        "with stage.device('test of Enginewright'):\n    print('in', flush=True)\n    sys.stdin.readline()\n   "
        " print('out', flush=True)"
    )
    started = [
        subprocess.Popen(
            command(project, body),
            cwd=project,
            env=environment(TMPDIR=str(project)),
            stdin=-1,
            stdout=-1,
            stderr=-1,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        first, second = started
        # Either may come first: the one that waits says so.
        waiting = first if _waits(first, second) else second
        holder = second if waiting is first else first
        output, _ = holder.communicate("\n", timeout=HANG_SECONDS)
        assert output == "in\nout\n"
        output, _ = waiting.communicate("\n", timeout=HANG_SECONDS)
        assert output == "in\nout\n"
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _waits(one: subprocess.Popen[str], other: subprocess.Popen[str]) -> bool:
    import select

    assert one.stderr
    assert other.stderr
    ready, _, _ = select.select([one.stderr, other.stderr], [], [], HANG_SECONDS)
    line = ready[0].readline()
    assert "waiting for test of Enginewright, which is in use by calibrate (process" in line
    return ready[0] is one.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux")
def test_a_stage_dies_with_its_parent(project: Path) -> None:
    stage_command = command(project, "print(os.getpid(), flush=True)\ntime.sleep(3600)")
    parent_program = f"import subprocess; subprocess.run({stage_command!r})"
    with subprocess.Popen(
        [sys.executable, "-c", parent_program], cwd=project, env=environment(), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: gone(child))  # else it sleeps for an hour


def test_killed_in_the_middle_of_an_output_the_next_run_recovers(project: Path) -> None:
    body = """
out = Path('artifacts/calibration/calib.cache')
with stage.output(out) as path:
    path.write_bytes(b'half')
    if not Path('again').exists():
        print('now', flush=True); time.sleep(3600)
    path.write_bytes(b'whole')
return {'images': 1}"""
    with subprocess.Popen(
        command(project, body), cwd=project, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert not (project / "artifacts/calibration/calib.cache").exists()
    (project / "again").touch()
    assert call(project, body).returncode == 0
    assert (project / "artifacts/calibration/calib.cache").read_bytes() == b"whole"


def test_a_stage_refuses_a_library_that_is_not_the_locked_one(project: Path) -> None:
    """`dvc repro -s STAGE` runs no other stage that would."""
    (project / "toolchain.yaml").write_text("seal: nothing\n")
    finished = call(project, "print('it ran')")
    assert finished.returncode == 2
    assert "toolchain.yaml" in finished.stderr
    assert "it ran" not in finished.stdout
