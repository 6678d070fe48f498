"""A model with a custom operator through the stages, as `dvc repro` runs them, on ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import enginewright
from enginewright import manifest
from enginewright.config.model import tracked as tracked_code
from enginewright.config.plugins import PluginFiles, tracked
from enginewright.data.imageset import write_classes, write_labels
from enginewright.errors import StaleArtifact
from stages.build_fp16 import build_fp16
from stages.build_fp32 import build_fp32
from stages.build_int8 import build_int8
from stages.build_int8_mixed import build_int8_mixed
from stages.calibrate import calibrate
from stages.check_onnx import check_onnx
from stages.probe_target import probe_target
from stages.validate_accuracy import validate_accuracy
from support import plugins as squash
from support.project import PATHS, ROOT
from support.waiting import HANG_SECONDS

pytestmark = pytest.mark.slow

CODE = """
import torch
from torch import nn

class Squash(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x / (1 + x.abs())

    @staticmethod
    def symbolic(g, x):
        return g.op("own.ops::Squash", x).setType(x.type())

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.second(Squash.apply(self.first(x))).relu().mean((2, 3)))
"""
PRECISIONS = ["fp32", "fp16", "int8"]
STAGES = (
    probe_target,
    check_onnx,
    calibrate,
    build_fp32,
    build_fp16,
    build_int8,
    build_int8_mixed,
    validate_accuracy,
)
Run = Callable[[Callable[[], None]], tuple[int, str]]


@pytest.fixture
def project(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["stage"])
    (configured / "net.py").write_text(CODE)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(CODE, names)
    torch.manual_seed(0)
    network = names["Net"]()
    for weight in network.parameters():
        torch.nn.init.normal_(weight)  # so that the answers differ from image to image
    torch.save(network.state_dict(), configured / "net.pt")
    for folder, seed in ((PATHS.calibration_images, 0), (PATHS.validation, 1)):
        write_images(configured / folder, seed)
    return configured


def write_images(folder: Path, seed: int) -> None:
    """Forty of noise, each a bright half on dark or the other way round, without labels."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    halves = generator.integers(0, 200, (40, 2, 1, 1)).repeat(14, axis=1)
    pixels = (halves + generator.integers(0, 56, (40, 28, 28, 1))).astype(np.uint8)
    np.save(folder / "images.npy", pixels)
    write_labels(folder / "labels.csv", [f"{index}.png" for index in range(40)], [-1] * 40)
    write_classes(folder / "classes.json", [])
    for name in ("images.npy", "labels.csv", "classes.json"):
        manifest.seal(folder / name, "prepare_data", [])


def configure(project: Path, **files: list[str]) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    seen = tracked(PluginFiles(**files))
    params["runtime"] = params["calibration"]["runtime"] = "onnxruntime"
    params["model"].update(
        name="net",
        _target_="net.Net",
        arguments={},
        code="net.py",
        tracked_code=tracked_code("net.py"),
        weights="net.pt",
        weights_from="file",
        plugins={"tensorrt": [], "onnxruntime": [], "python": [], **files},
        tracked_plugins={"portable": seen.portable, "tensorrt": seen.tensorrt},
    )
    params["build"]["precisions"] = PRECISIONS
    params["accuracy"]["gated"] = ["int8"]
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def stage(project: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


def through(project: Path, *names: str) -> None:
    for name in names:
        answer = stage(project, name)
        assert answer.returncode == 0, f"{name}: {answer.stderr}"


def report(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / PATHS.check_report).read_text())
    return found


@pytest.mark.parametrize("kind", ["onnxruntime", "python"])
def test_from_pytorch_to_an_int8_engine_that_is_validated(project: Path, kind: str, run: Run) -> None:
    """By a compiled library, and by a Python twin."""
    source = squash.library() if kind == "onnxruntime" else squash.twin()
    shutil.copy(source, project)
    configure(project, **{kind: [source.name]})
    through(project, "export")
    for entry in STAGES:
        code, printed = run(entry)
        assert code == 0, printed

    exported = manifest.verify(PATHS.model)
    assert exported.files[source.name].role == f"plugin of {kind}"
    assert exported.settings["custom_nodes"] == {"/Squash": "own.ops::Squash"}
    assert set(json.loads(PATHS.metrics_of("export").read_text())["max_relative_difference"]) >= {"batch_1", "batch_7"}
    (finding,) = [found for found in report(project)["findings"] if "own.ops" in found["what"]]
    assert finding["severity"] == "warning"
    assert f"ONNX Runtime takes it from {source.name}; name a plugin in model.plugins.tensorrt" in finding["remedy"]

    engine = PATHS.engine("int8", "engine.onnx")
    made = manifest.verify(engine)
    assert made.files[source.name].sha256 == manifest.sha256(source)
    assert made.settings["int8_share"] == 1.0
    assert made.settings["left_in_float"] == {
        "/Squash": "own.ops::Squash is a custom operator, and INT8 is for ONNX's own"
    }
    accuracy = json.loads(PATHS.metrics_of("validate_accuracy").read_text())
    assert accuracy["int8"]["agreement"] > 0.8
    assert accuracy["int8"]["sqnr_db"] > 20

    engine.with_name(source.name).write_bytes(source.read_bytes() + b"\n")
    with pytest.raises(StaleArtifact, match=rf"{source.name} beside it was changed"):
        enginewright.load(engine)


def test_without_kernels_the_export_says_what_to_name(project: Path) -> None:
    configure(project)
    answer = stage(project, "export")
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert "net has the custom operator own.ops::Squash, and nothing brings kernels; name in model.plugins" in line
    assert not PATHS.model.exists()


def test_what_tensorrt_alone_has_is_exported_uncompared_and_says_so(project: Path, run: Run) -> None:
    (project / "libtrt.so").write_bytes(b"compiled on the target")
    configure(project, tensorrt=["libtrt.so"])
    through(project, "export")
    assert [run(entry)[0] for entry in (probe_target, check_onnx)] == [0, 0]
    figures = json.loads(PATHS.metrics_of("export").read_text())
    assert figures["max_relative_difference"] == {}
    assert "only TensorRT has kernels (libtrt.so), so ONNX Runtime cannot be compared" in figures["not_compared"]
    assert manifest.verify(PATHS.model).settings["not_compared"] == figures["not_compared"]
    assert set(manifest.verify(PATHS.model).files) == set()  # it is of the target, and so of the builds
    (finding,) = [found for found in report(project)["findings"] if "own.ops" in found["what"]]
    assert "TensorRT takes it from libtrt.so and ONNX Runtime has no kernel" in finding["remedy"]
    code, printed = run(calibrate)
    assert code == 2
    assert "ONNX Runtime has no kernel for own.ops:Squash; name a library in model.plugins.onnxruntime" in printed
