"""The stage with a model of the user's own, as `dvc repro export` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml

from enginewright import manifest
from enginewright.config.model import tracked
from enginewright.data.imageset import write_classes, write_labels
from support.project import PATHS, ROOT
from support.waiting import HANG_SECONDS

pytestmark = pytest.mark.slow

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.conv, self.norm, self.head, self.noise = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10), noise

    def forward(self, x):
        scores = self.head(self.norm(self.conv(x)).relu().mean((2, 3)))
        return scores + self.noise * torch.rand(10) if self.noise else scores
"""


@pytest.fixture
def project(configured: Path) -> Path:
    """A model in `net.py` with weights in `net.pt`."""
    (configured / "net.py").write_text(CODE)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(CODE, names)
    torch.manual_seed(0)
    torch.save(names["Net"]().state_dict(), configured / "net.pt")
    configure(configured)
    write_images(configured / PATHS.calibration_images)
    return configured


def write_images(folder: Path) -> None:
    """Nine of them, without labels."""
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (9, 28, 28, 1), dtype=np.uint8))
    write_labels(folder / "labels.csv", [f"{index}.png" for index in range(9)], [-1] * 9)
    write_classes(folder / "classes.json", [])
    for name in ("images.npy", "labels.csv", "classes.json"):
        manifest.seal(folder / name, "prepare_data", [])


def configure(project: Path, **arguments: float) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["model"].update(
        name="net",
        _target_="net.Net",
        arguments=arguments,
        code="net.py",
        tracked_code=tracked("net.py"),
        weights="net.pt",
        weights_from="file",
    )
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def export(project: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "stages.export"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


def test_one_sealed_file_the_same_twice(project: Path) -> None:
    made = []
    for _ in range(2):
        answer = export(project)
        assert answer.returncode == 0, answer.stderr
        assert answer.stderr == ""
        made.append((PATHS.model.read_bytes(), manifest.sidecar(PATHS.model).read_bytes()))
    assert made[0] == made[1]
    assert sorted(path.name for path in PATHS.model.parent.iterdir()) == ["model.onnx", "model.onnx.json"]
    assert set(manifest.verify(PATHS.model).inputs) == {"net.py", "net.pt"}
    assert str(project).encode() not in made[0][0]
    figures = json.loads((PATHS.metrics_of("export")).read_text())
    assert figures["opset_version"] == 17
    assert (
        figures["parameters"]
        == sum(weight.numel() for weight in torch.load("net.pt", weights_only=True).values()) - 4 * 4 - 1
    )  # BatchNorm is fused
    assert set(figures["max_relative_difference"]) == {"batch_1", "batch_2", "batch_7"}
    assert [node.op_type for node in onnx.load_model(PATHS.model).graph.node] == [
        "Conv",
        "Relu",
        "ReduceMean",
        "Gemm",
    ]


def test_past_the_tolerance_there_are_metrics_and_no_model(project: Path) -> None:
    configure(project, noise=0.5)
    answer = export(project)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: export: PyTorch and ONNX Runtime differ on net by ")
    assert max(json.loads((PATHS.metrics_of("export")).read_text())["max_relative_difference"].values()) > 1e-4
    assert not PATHS.model.exists()
    assert not list(project.rglob("*.partial"))
