"""The command line as a user meets it: what is printed, what is written, the exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.cli import COMMANDS, PIPELINE, main
from enginewright.target import TargetFingerprint
from support.lean import run_without
from support.project import ROOT

CPU = TargetFingerprint("EPYC", None, "onnxruntime", "1.32.0", instruction_sets=("avx2",))
ENGINE = Path("artifacts/engines/int8/engine.onnx")
MODEL = Path("artifacts/onnx/model.onnx")
CACHE = Path("artifacts/calibration/calib.cache")
IMAGES = Path("artifacts/data/calibration/images.npy")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


# --- inspect and verify


@pytest.fixture
def chain(here: Path) -> Path:
    """Images -> ONNX -> calib.cache -> engine, sealed as the stages seal them."""
    for path in (IMAGES, MODEL, CACHE, ENGINE):
        path.parent.mkdir(parents=True)
    np.save(IMAGES, np.zeros((4, 2, 2, 1), np.uint8))
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "weight"], ["logits"])],
        "tiny",
        [value("input", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), MODEL)
    CalibrationCache(Header.entropy, {"input": 0.5, "logits": 0.25}).write(CACHE)
    shutil.copy(MODEL, ENGINE)
    manifest.seal(IMAGES, "prepare_data", [])
    manifest.seal(MODEL, "export", [])
    manifest.seal(CACHE, "calibrate", [MODEL, IMAGES])
    manifest.seal(
        ENGINE, "build_int8", [MODEL, CACHE], CPU, {"precision": "int8", "profile": {"min": 1, "opt": 32, "max": 128}}
    )
    return here


def test_verify_walks_everything(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (chain / "artifacts/metrics").mkdir()
    (chain / "artifacts/metrics/export.json").write_text("{}")
    assert call("verify") == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith("ok")] == [
        f"ok  {path}" for path in sorted([ENGINE, MODEL, CACHE, IMAGES])
    ]
    assert "4 of 4 artifacts are whole" in printed


@pytest.mark.parametrize(
    ("spoiled", "failing", "text"),
    [
        pytest.param(ENGINE, [ENGINE], "its bytes differ", id="engine"),
        pytest.param(CACHE, [CACHE, ENGINE], f"it was made from another {CACHE}", id="cache"),
        pytest.param(MODEL, [MODEL, CACHE, ENGINE], f"it was made from another {MODEL}", id="model-of-another"),
        pytest.param(IMAGES, [IMAGES, CACHE], f"it was made from another {IMAGES}", id="images"),
    ],
)
def test_verify_names_every_link_that_a_change_breaks(
    chain: Path, capsys: pytest.CaptureFixture[str], spoiled: Path, failing: list[Path], text: str
) -> None:
    content = bytearray(spoiled.read_bytes())
    content[-2] ^= 1
    spoiled.write_bytes(content)
    assert call("verify", "artifacts") == 2
    printed = capsys.readouterr()
    assert text in printed.err
    assert {line.split()[1] for line in printed.err.splitlines()} == {str(path) for path in failing}
    assert f"{4 - len(failing)} of 4 artifacts" in printed.out


def test_verify_sees_an_artifact_without_a_sidecar(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.sidecar(ENGINE).unlink()
    assert call("verify", "artifacts/engines") == 2
    assert "its sidecar engine.onnx.json is missing" in capsys.readouterr().err
    manifest.sidecar(ENGINE).write_text('{"sha256": ')
    assert call("verify", "artifacts/engines") == 2
    assert "engine.onnx.json is not a manifest" in capsys.readouterr().err


def test_verify_of_nothing_is_a_fault(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify") == 2
    assert "nothing sealed lies under artifacts; run `dvc repro` first" in capsys.readouterr().err
    assert call("verify", "no/such/engine.trt") == 2
    assert "no/such/engine.trt does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("artifacts/accuracy/metrics.json", " was not built yet; run `dvc repro validate_accuracy`"),
        ("artifacts/engines/int8/engine.trt", " does not exist; did you mean 'artifacts/engines/int8/engine.onnx'?"),
    ],
)
def test_inspect_of_what_is_not_there_says_what_to_run_or_to_name(
    chain: Path, capsys: pytest.CaptureFixture[str], path: str, sentence: str
) -> None:
    assert call("inspect", path) == 2
    assert capsys.readouterr().err == f"error: {path}{sentence}\n"


def test_inspect_in_a_fresh_clone_says_what_to_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", ENGINE) == 2
    assert capsys.readouterr().err == f"error: {ENGINE} was not built yet; run `dvc repro build_int8`\n"


@pytest.mark.parametrize("named", [ENGINE, manifest.sidecar(ENGINE)], ids=["engine", "sidecar"])
def test_inspect_shows_an_engine_with_its_chain(chain: Path, capsys: pytest.CaptureFixture[str], named: Path) -> None:
    assert call("inspect", named) == 0
    printed = capsys.readouterr().out
    for text in (
        "build_int8",
        "EPYC",
        "profile.opt",
        "32",
        manifest.sha256(ENGINE),
        f"{CACHE} ok by calibrate",
        f"{IMAGES} ok by prepare_data",
        "MatMul",
    ):
        assert text in printed


def test_inspect_calls_nothing_ok_that_has_no_sidecar(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "notes.txt").write_text("hello")
    assert call("inspect", "notes.txt") == 0
    assert capsys.readouterr().out == ("notes.txt has no sidecar: the pipeline did not make it, or did not finish it\n")


def test_inspect_marks_what_changed(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MODEL.write_bytes(b"another")
    IMAGES.unlink()
    assert call("inspect", ENGINE) == 2
    printed = capsys.readouterr().out
    assert f"{MODEL} changed by export" in printed
    assert f"{IMAGES} missing" in printed
    assert f"{CACHE} ok" in printed


def test_inspect_shows_a_cache_and_a_model(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", CACHE) == 0
    printed = capsys.readouterr().out
    assert "±63.5" in printed  # 0.5 * 127
    assert "±31.75" in printed
    assert call("inspect", MODEL) == 0
    printed = capsys.readouterr().out
    for text in ("opset ai.onnx 17", "input", "[batch, 4]", "float", "logits", "MatMul"):
        assert text in printed


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        pytest.param("x.onnx", b"\xff\xff\xff", "x.onnx is not an ONNX model", id="no-model"),
        pytest.param("calib.cache", b"hello\n", "calib.cache, line 1", id="no-cache"),
        pytest.param("folder", None, "folder is a folder", id="folder"),
        pytest.param("none.trt", None, "none.trt does not exist", id="missing"),
    ],
)
def test_inspect_of_something_else_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, text: str
) -> None:
    (here / "folder").mkdir()
    if content is not None:
        (here / name).write_bytes(content)
    assert call("inspect", name) == 2
    assert text in capsys.readouterr().err


# --- doctor


@pytest.mark.slow
def test_doctor_says_why_not_and_auto_finds_something(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["runtimes"]) == {"tensorrt", "tensorrt_rtx", "onnxruntime", "null"}
    assert report["runtimes"]["onnxruntime"] == {"calibrate": None, "build": None, "run": None}
    assert report["auto"]["build and run"] in report["runtimes"]
    assert report["packages"]["dvc"]
    assert report["machine"]["cpu"]
    assert call("doctor") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, version in report["packages"].items():
        assert name in printed
        assert (version or "not installed") in printed


# --- the whole


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    printed = capsys.readouterr().out
    assert f"enginewright {command}" in printed
    assert "examples:" in printed
    assert "exit codes: 0 " in printed


def test_a_wrong_command_is_answered_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("configre") == 2
    assert all(command in capsys.readouterr().err for command in ["configure"])


@pytest.mark.parametrize("command", ["configure", "inspect"])
def test_without_the_pipeline_a_command_names_the_extra(command: str, tmp_path: Path) -> None:
    answer = run_without(PIPELINE, f"from enginewright.cli import main; main([{command!r}])", tmp_path)
    assert answer.returncode == 2
    assert re.fullmatch(r"error: \w+ is not installed; pip install 'enginewright\[pipeline\]'\n", answer.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["--version"], 0, "enginewright ", id="version"),
        pytest.param(["--help"], 0, "exit codes: 0 done", id="help"),
        pytest.param(["configre"], 2, "invalid choice: 'configre'", id="wrong command"),
        pytest.param([], 2, "the following arguments are required", id="no command"),
    ],
)
def test_without_the_pipeline_the_commands_are_listed(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    answer = run_without(PIPELINE, f"from enginewright.cli import main; main({arguments!r})", tmp_path)
    assert answer.returncode == code
    assert said in answer.stdout + answer.stderr
    assert "is not installed" not in answer.stderr


@pytest.mark.parametrize("arguments", [["init", "mine"], ["calibrations"]])
def test_a_command_that_calls_dvc_names_the_extra_where_it_is_missing(arguments: list[str], tmp_path: Path) -> None:
    answer = run_without(["dvc"], f"from enginewright.cli import main; main({arguments!r})", tmp_path)
    assert answer.returncode == 2
    assert answer.stderr == "error: dvc is not installed; pip install 'enginewright[pipeline]'\n"
    assert not list(tmp_path.iterdir())


def test_without_the_pipeline_an_engine_can_be_verified(tmp_path: Path) -> None:
    answer = run_without(PIPELINE, "from enginewright.cli import main; main(['verify', 'engine.trt'])", tmp_path)
    assert answer.stderr.startswith("error: engine.trt does not exist")


def test_a_reader_that_leaves_is_no_bug(chain: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    writer = f"{sys.executable} -m enginewright.cli verify"
    answer = subprocess.run(
        ["bash", "-c", f"{writer} | true"], cwd=chain, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in answer.stderr
    assert "Exception ignored" not in answer.stderr


def test_the_command_line_starts_lean() -> None:
    program = (
        "import sys, enginewright.cli as c; c._parser(c.COMMANDS);"
        " print([n for n in ('dvc', 'hydra', 'onnx', 'torch', 'scipy', 'pandas') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
