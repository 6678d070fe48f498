"""`enginewright init --onnx`, with the wheel and no checkout: an ONNX file and images to a verdict, no YAML edited."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from support import wheel
from support.project import Project

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("made")]
CLASSES = ("blue", "green", "red")  # the model has red first
QUICK = (
    *("benchmark.seconds=0.5", "benchmark.warmup_seconds=0.1", "benchmark.window_seconds=0.1"),
    *("benchmark.batch_curve=[1,8]", "benchmark.batch_curve_seconds=0.1", "profile_layers.runs=3"),
    *("accuracy.undecided=warn", "accuracy.require_signal=false"),
)
GENERATOR = np.random.default_rng(0)


def network(path: Path) -> None:
    """Which of the channels, red, green and blue, is the brightest: with axes as Paddle writes them."""
    weights = {"mix": np.eye(3, dtype=np.float32)[..., None, None] + 0.05, "scores_of": 4 * np.eye(3, dtype=np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "mix"], ["mixed"], kernel_shape=[1, 1]),
            helper.make_node("Relu", ["mixed"], ["bright"]),
            helper.make_node("GlobalAveragePool", ["bright"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "scores_of"], ["scores"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 3, "?", "?"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [-1, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def image(colour: str) -> Image.Image:
    pixels = GENERATOR.integers(0, 200, (GENERATOR.integers(20, 40), GENERATOR.integers(20, 40), 3))
    pixels[..., ("red", "green", "blue").index(colour)] += 40
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_an_onnx_file_and_images_reach_a_verdict(tmp_path: Path) -> None:
    site = wheel.install(tmp_path / "wheel")
    root = tmp_path / "work"
    root.mkdir()
    network(root / "colours.onnx")
    rows = ["file,class"]
    (root / "images").mkdir()
    for index in range(240):
        name, colour = f"{index}.png", CLASSES[index % 3]
        image(colour).save(root / "images" / name)
        rows.append(f"{name},{colour}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    command = "init mine --onnx colours.onnx --data images --labels labels.csv --classes classes.txt"
    said = "--task classification --preprocess unit --size 32x24"
    made = Project(root, {"PYTHONPATH": str(site)})
    run = made.call("python", "-m", "enginewright.cli", *command.split(), *said.split())
    assert run.code == 0, run.output
    assert "120 to validate, 72 to calibrate (out of 72), 48 to rank layers" in run.output
    project = Project(root / "mine", {"PYTHONPATH": str(site)})
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    assert params["axes"]["height"] == {"min": 32, "opt": 32, "max": 32}
    assert params["data"]["root"] == "../images"
    assert params["data"]["preprocessing"]["size"] == [32, 24]
    reset = project.call("python", "-m", "enginewright.cli", "configure", "--reset", *QUICK)
    assert reset.code == 0, reset.output
    assert yaml.safe_load((project.root / "params.yaml").read_text())["model"]["name"] == "colours"
    repro = project.repro()
    assert repro.code == 0, repro.output
    accuracy = yaml.safe_load((project.root / "artifacts/metrics/validate_accuracy.json").read_text())
    assert accuracy["fp32"]["top1"] == 1.0, "the classes are not in the order of classes.txt"
    assert "gate" in repro.ran
    (root / "images" / "0.png").unlink()
    assert "prepare_data" in project.call("dvc", "status").output, "DVC does not see the images"
