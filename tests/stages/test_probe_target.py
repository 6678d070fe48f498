"""probe_target on a machine without a runtime: portable stages go on, and what is bound to a target refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enginewright.errors import RuntimeUnavailable
from enginewright.target import read_target
from support.checked_model import write_images, write_model
from support.project import PATHS, ROOT

ABSENT = "tensorrt_rtx"
pytestmark = pytest.mark.slow


@pytest.fixture
def without(configured: Path) -> Path:
    """A project for a runtime that this Python cannot import, whatever is installed."""
    hook = configured / "absent"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(f"import sys\nsys.modules[{ABSENT!r}] = None\n")
    params = configured / "params.yaml"
    text = params.read_text().replace("runtime: auto\n", f"runtime: {ABSENT}\n")
    params.write_text(text.replace("  runtime: onnxruntime\n", f"  runtime: {ABSENT}\n"))
    return hook


def test_it_says_why_and_what_needs_a_target_refuses_with_that(without: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{without}"}

    def call(stage: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"stages.{stage}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert call("probe_target").returncode == 0
    (why,) = json.loads(PATHS.target.read_text()).values()
    assert why.startswith(f"nothing here can build ({ABSENT}: ")
    with pytest.raises(RuntimeUnavailable, match="which probes again"):
        read_target(PATHS.target)
    write_model()
    write_images()
    refused = call("build_fp32")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [f"error: build_fp32: {why}; then run `dvc repro`, which probes again"]
    assert call("calibrate").returncode == 2
