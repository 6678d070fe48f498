"""A model with two inputs, two outputs and dynamic axes, through every stage from export to benchmark_sustained."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from enginewright import manifest
from enginewright.application import load
from enginewright.config.model import tracked
from enginewright.data.columns import SHAPES, SUFFIX
from enginewright.data.imageset import write_classes, write_labels
from enginewright.interface import AxisRange, batches
from enginewright.layout import Layout
from stages.analyze_sensitivity import analyze_sensitivity
from stages.benchmark_sustained import benchmark_sustained
from stages.build_fp16 import build_fp16
from stages.build_fp32 import build_fp32
from stages.build_int8 import build_int8
from stages.build_int8_mixed import build_int8_mixed
from stages.calibrate import calibrate
from stages.check_drift import check_drift
from stages.check_onnx import check_onnx
from stages.export import export
from stages.profile_layers import profile_layers
from stages.search_mixed import search_mixed
from stages.validate_accuracy import validate_accuracy
from support.checked_model import write_target
from support.project import PATHS, ROOT

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], None]], tuple[int, str]]
CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.places, self.embed = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Embedding(16, 8)
        self.mix, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, image, tokens):
        features = self.conv(image).relu()
        text = self.mix(self.embed(tokens)).mean(1)
        return {"scores": self.head((features.mean((2, 3)) + text).relu()), "places": self.places(features)}
"""
AXES = {
    **batches(1, 2, 8),
    "height": AxisRange(12, 16, 24),
    "width": AxisRange(12, 20, 24),
    "tokens": AxisRange(4, 6, 8),
}
MODEL = {
    "name": "two",
    "_target_": "two_inputs_net.Net",
    "arguments": {},
    "code": "two_inputs_net.py",
    "tracked_code": tracked("two_inputs_net.py"),
    "weights": "net.pt",
    "weights_from": "file",
    "inputs": {
        "image": {"shape": ["batch", 1, "height", "width"], "dtype": "float32"},
        "tokens": {"shape": ["batch", "tokens"], "dtype": "int64"},
    },
    "outputs": ["scores", "places"],
    "judged": "scores",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "model": MODEL,
    "axes": {name: its.to_dict() for name, its in AXES.items()},
    "calibration": {"algorithm": "minmax", "batch_size": 4, "bias_correction": True},
    "analyze_sensitivity": {"batch_size": 4},
    "accuracy": {
        "batch_size": 8,
        "minimum_ratio": 0.1,
        "minimum_sqnr_db": None,
        "require_signal": False,
        "undecided": "warn",
        "gated": ["int8"],
    },
    "benchmark": {
        "scenarios": ["offline"],
        "driver": "own",
        "seconds": 0.01,
        "warmup_seconds": 0.0,
        "batch_size": 8,
        "batch_curve": [],
    },
    "profile_layers": {"runs": 1, "batch_size": 2},
}


def sample(index: int) -> dict[str, np.ndarray]:
    """Two of three are wide, the third is tall and has fewer tokens."""
    random, tall = np.random.default_rng(index), index % 3 == 2
    image = random.standard_normal((1, 20, 16) if tall else (1, 16, 20), dtype=np.float32)
    return {"image": image, "tokens": random.integers(0, 16, 5 if tall else 6)}


def write_set(folder: Path, first: int, count: int) -> None:
    folder.mkdir(parents=True)
    samples = sorted((sample(index) for index in range(first, first + count)), key=lambda its: its["image"].shape)
    for name in samples[0]:
        arrays = [its[name] for its in samples]
        np.save(folder / f"{name}{SUFFIX}", np.concatenate([array.ravel() for array in arrays]))
        np.save(folder / f"{name}{SHAPES}", np.array([array.shape for array in arrays], np.int64))
    write_labels(folder / "labels.csv", [f"{first + place}.npz" for place in range(count)], [-1] * count)
    write_classes(folder / "classes.json", [])
    for path in list(folder.iterdir()):
        manifest.seal(path, "prepare_data", [])


@pytest.fixture
def project(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's code and weights, and samples of two shapes."""
    monkeypatch.setattr(sys, "argv", ["stage"])
    shutil.copytree(ROOT / "layers", configured / "layers")
    (configured / "two_inputs_net.py").write_text(CODE)
    names: dict[str, Any] = {}
    exec(CODE, names)
    torch.manual_seed(0)
    torch.save(names["Net"]().state_dict(), configured / "net.pt")
    params = yaml.safe_load((configured / "params.yaml").read_text())
    for section, values in SETTINGS.items():
        params[section].update(values)
    params["data"]["preprocessing"]["recipe"] = "none"
    params["data"].update(source="arrays", validation_images=24)
    (configured / "params.yaml").write_text(yaml.safe_dump(params))
    write_set(PATHS.calibration_images, 0, 12)
    write_set(PATHS.sensitivity_images, 12, 12)
    write_set(PATHS.validation, 24, 24)
    write_target()
    return configured


def metrics(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Layout().metrics_of(stage).read_text())
    return found


def test_every_stage_takes_two_inputs_two_outputs_and_samples_of_two_shapes(project: Path, run: Run) -> None:
    del project
    for stage in (
        export,
        check_onnx,
        calibrate,
        analyze_sensitivity,
        search_mixed,
        check_drift,
        build_fp32,
        build_fp16,
    ):
        code, printed = run(stage)
        assert code == 0, printed
    for stage in (build_int8, build_int8_mixed, validate_accuracy, profile_layers, benchmark_sustained):
        code, printed = run(stage)
        assert code == 0, printed
    assert set(metrics("export")["max_relative_difference"]) >= {"batch_7", "height_12", "width_24", "tokens_8"}
    shape = "image [1, 16, 20], tokens [6], the shape of 16 of 24 samples (2 shapes)"
    for name in ("validate_accuracy", "profile_layers", "benchmark_sustained"):
        assert metrics(name)["shape"] == shape
    assert f"Fed with {shape}." in printed
    assert metrics("build_int8")["int8_share"] == 1.0
    assert metrics("validate_accuracy")["int8"]["agreement"] > 0.8
    with load(PATHS.engine("int8", "engine.onnx")) as engine:
        assert engine.axes == AXES
        assert [spec.name for spec in engine.interface.outputs] == ["scores", "places"]
        given = {name: array[None] for name, array in sample(0).items()}
        assert {name: its.shape for name, its in engine.infer(given).items()} == {
            "scores": (1, 4),
            "places": (1, 2, 16, 20),
        }
