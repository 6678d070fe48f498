"""The stage on an exported file, as `dvc repro check_onnx` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from enginewright import manifest
from support.project import PATHS, ROOT
from support.waiting import HANG_SECONDS


def model(operator: str) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 28, 28]) for name in ("input", "logits")
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, ["input"], ["logits"], "only")], "tiny", values[:1], values[1:]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def exported(operator: str) -> None:
    """What the stage export leaves behind."""
    PATHS.model.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model(operator), PATHS.model)
    manifest.seal(PATHS.model, "export", [])


def check() -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "stages.check_onnx"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


@pytest.mark.slow
def test_a_sound_model_passes_and_leaves_a_sealed_report(configured: Path) -> None:
    exported("Relu")
    answer = check()
    assert answer.returncode == 0, answer.stderr
    assert "check_onnx: pass" in answer.stdout
    manifest.verify(PATHS.check_report)
    assert json.loads(PATHS.check_report.read_text())["verdict"] == "pass"
    assert "only" in (PATHS.check_report.parent / "graph.txt").read_text()
    figures = json.loads((PATHS.metrics_of("check_onnx")).read_text())
    assert figures["findings"] == {"fail": 0, "warning": 0, "note": 0}
    before = {path: path.read_bytes() for path in PATHS.check_report.parent.iterdir()}
    check()
    assert {path: path.read_bytes() for path in PATHS.check_report.parent.iterdir()} == before


def test_a_failed_check_leaves_the_report_and_ends_with_one_sentence(configured: Path) -> None:
    exported("Hardmax")
    exported("Det")  # over the first: nothing of an older run is left to mislead
    answer = check()
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith(
        "error: check_onnx: artifacts/onnx/model.onnx fails its check (artifacts/checks/report.json): node 'only' (Det)"
        " is not supported by TensorRT"
    )
    report = json.loads(PATHS.check_report.read_text())
    assert report["verdict"] == "fail"
    assert {"severity": "fail", "node": "only"}.items() <= report["findings"][0].items()
    assert json.loads((PATHS.metrics_of("check_onnx")).read_text())["findings"]["fail"] >= 1


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        pytest.param(
            lambda: PATHS.model.write_bytes(b"\x00" + PATHS.model.read_bytes()[1:]),
            "its bytes differ from the sha256",
            id="flipped byte",
        ),
        pytest.param(PATHS.model.unlink, "it does not exist", id="missing"),
    ],
)
def test_a_damaged_artifact_is_stale(damage: object, text: str, configured: Path) -> None:
    exported("Relu")
    assert callable(damage)
    damage()
    answer = check()
    assert answer.returncode == 2
    assert text in answer.stderr
    assert "dvc repro export" in answer.stderr
