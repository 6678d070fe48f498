"""`enginewright init --onnx`: what it asks for, what it refuses before anything is written, and what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from enginewright.cli import init, main

CLASSES = ("cat", "dog", "owl")
SAID = ["--task", "classification", "--preprocess", "unit"]


def network(
    path: Path, outputs: int = 1, classes: int = 3, shape: tuple[Union[int, str], ...] = ("N", 3, 8, 8)
) -> None:
    """The mean of each channel to a score for each class."""
    weights = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    names = ["scores", "more"][:outputs]
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", "weights"], [name]) for name in names),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes]) for name in names],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def given(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and ten images of each class."""
    monkeypatch.setattr(init, "_require_tools", lambda: None)
    network(here / "net.onnx")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (here / "images" / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(here / f"images/{name}/{index}.png")
    return here


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["init", "mine", *arguments])
    assert isinstance(ended.value.code, int)
    captured = capsys.readouterr()
    return ended.value.code, captured.err if ended.value.code else captured.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(
            ["--data", "images"], "--data goes with --onnx FILE; give that too, or leave it out", id="no model"
        ),
        pytest.param(
            ["--onnx", "net.onnx"], "--onnx goes with --data FOLDER, of images or of one .npz a sample", id="no data"
        ),
        pytest.param(
            ["--onnx", "nit.onnx", "--data", "images"], "--onnx nit.onnx is no file; give an ONNX", id="no file"
        ),
        pytest.param(["--onnx", "net.onnx", "--data", "image", *SAID], "--data image is no folder", id="no folder"),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", "--preprocess", "unit"],
            "--task is missing, and the file does not say what its output means; choose one of classification: [N,"
            " classes], two classes at least; segmentation: ",
            id="no task",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", "--task", "clasification"],
            "there is no task 'clasification'; did you mean 'classification'?",
            id="task",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", "--task", "segmentation"],
            "the output 'scores' of the model is [N, 3], and model.task segmentation judges",
            id="task of another output",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", "--task", "outputs"],
            "--preprocess is missing, and the file does not say how images become its input; choose what the model was"
            " trained with:\n  caffe ",
            id="no preprocessing",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", "--task", "outputs", "--preprocess", "units"],
            "--preprocess units is not a preset; did you mean 'unit'?",
            id="preset",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", *SAID, "--labels", "a.csv"],
            "--labels a.csv is no file",
            id="labels",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", *SAID, "--output", "score"],
            "--output score is no output of the model; did you mean 'scores'?",
            id="output",
        ),
        pytest.param(
            ["--onnx", "net.onnx", "--data", "images", *SAID, "--size", "16x16"],
            "--size 16x16 is not what the input x [N, 3, 8, 8] takes; leave it out",
            id="size",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_is_written(
    given: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(given.rglob("*"))
    code, error = said(capsys, *arguments)
    assert code == 2
    assert error.startswith(f"error: {sentence}")
    assert sorted(given.rglob("*")) == before


def test_what_is_no_onnx_file_is_refused_as_by_check(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (given / "net.onnx").write_bytes((given / "net.onnx").read_bytes()[:40])
    code, error = said(capsys, "--onnx", "net.onnx", "--data", "images", *SAID)
    assert code == 2
    assert "(`enginewright check net.onnx`)" in error
    assert not (given / "mine").exists()


def test_a_model_of_other_classes_needs_their_list(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(given / "net.onnx", classes=5)
    code, error = said(capsys, "--onnx", "net.onnx", "--data", "images", *SAID)
    assert code == 2
    assert "scores [N, 5] has 5 classes, and images names 3; list all of the model's, in the order of its" in error


def test_of_two_outputs_one_is_chosen_or_all_are_compared(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(given / "net.onnx", outputs=2)
    code, error = said(capsys, "--onnx", "net.onnx", "--data", "images", *SAID)
    assert code == 2
    assert "the model has 2 outputs (scores [N, 3], more [N, 3]), and the task classification judges one" in error


def test_a_damaged_image_is_named(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (given / "images/cat/3.png").write_bytes(b"no image")
    code, error = said(capsys, "--onnx", "net.onnx", "--data", "images", *SAID)
    assert code == 2
    assert "3.png" in error
    assert not (given / "mine").exists()


def test_a_few_images_are_too_few(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (given / "images/owl").iterdir():
        path.write_bytes((given / "images/cat/0.png").read_bytes())  # duplicates
    for path in list((given / "images/dog").iterdir())[1:]:
        path.unlink()
    code, error = said(capsys, "--onnx", "net.onnx", "--data", "images", *SAID)
    assert code == 2
    assert error.strip() == "error: --data images holds 11 different samples; give 20 at least"
