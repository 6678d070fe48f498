"""`enginewright init --onnx`: what it asks for, what it refuses before anything is written, and what it writes."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any, Union, cast

import numpy as np
import onnx
import pytest
from omegaconf import OmegaConf
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from enginewright.cli import init, main, onnx_project
from enginewright.cli.composition import compose
from enginewright.cli.selected import Selection
from support.project import ROOT

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


def written(root: Path, *arguments: str) -> dict[str, Any]:
    """What the project's conf/ composes to, checked against the schema."""
    parser = argparse.ArgumentParser()
    onnx_project.add_arguments(parser)
    plan = onnx_project.planned(parser.parse_args(list(arguments)))
    assert plan is not None
    shutil.copytree(ROOT / "conf", root / "mine/conf")
    config = (root / "mine/conf/config.yaml").read_text()
    for name, text in onnx_project.texts(plan, config, root / "mine").items():
        (root / "mine" / name).write_text(text)
    (root / "mine/conf/selected.yaml").write_text(Selection().to_text())
    os.chdir(root / "mine")  # the fixture goes back
    return cast("dict[str, Any]", OmegaConf.to_container(compose()))


def test_what_is_written_composes_to_what_was_said(given: Path) -> None:
    network(given / "net.onnx", classes=3, shape=(1, 3, "", ""))
    (given / "classes.txt").write_text("\n".join(reversed(CLASSES)) + "\n")
    axes = ["--axes", "height=8:16:32", "width=8:24:32", "batch=1:2:4", "--size", "16x20"]
    found = written(given, "--onnx", "net.onnx", "--data", "images", "--classes", "classes.txt", *SAID, *axes)
    model, data = found["model"], found["data"]
    assert (model["source"], model["name"], model["path"]) == ("onnx", "net", "model/net.onnx")
    assert (model["task"], model["axis_names"]) == (
        "classification",
        {"x": {0: "batch", 2: "height", 3: "width"}},
    )
    assert found["axes"]["height"] == {"min": 8, "opt": 16, "max": 32}
    assert found["axes"]["batch"] == {"min": 1, "opt": 2, "max": 4}
    assert found["accuracy"]["batch_size"] == found["profile_layers"]["batch_size"] == 4
    assert found["benchmark"]["batch_curve"] == [1, 2, 4]
    assert (data["source"], data["root"], data["classes"]) == ("image_folder", "../images", "data/classes.txt")
    assert (data["train_images"], data["validation_images"], data["sensitivity_images"]) == (0, 15, 6)
    assert (data["calibration_pool"], data["calibration_images"], data["selection"]) == (9, 9, "stratified")
    assert (data["preprocessing"]["recipe"], data["preprocessing"]["size"]) == ("stretch", [16, 20])


def test_images_without_labels_are_not_stratified(given: Path) -> None:
    (given / "plain").mkdir()
    for index, path in enumerate((given / "images").rglob("*.png")):
        path.rename(given / "plain" / f"{index}.png")
    found = written(given, "--onnx", "net.onnx", "--data", "plain", "--task", "outputs", "--preprocess", "yolox")
    assert found["data"]["selection"] == "random"
    assert found["data"]["preprocessing"]["recipe"] == "letterbox"
    assert found["data"]["preprocessing"]["size"] == [8, 8]


def test_arrays_go_to_the_inputs_of_their_names(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (given / "arrays").mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        np.savez(given / f"arrays/{index}.npz", x=rng.normal(size=(3, 8, 8)).astype(np.float32), target=index % 3)
    chosen = ["--onnx", "net.onnx", "--data", "arrays", "--task", "classification"]
    code, error = said(capsys, *chosen, "--preprocess", "unit")
    assert code == 2
    assert "--preprocess unit is for images, and arrays holds arrays, which are fed as they are; leave it out" in error
    found = written(given, *chosen)
    assert (found["data"]["source"], found["data"]["preprocessing"]["recipe"]) == ("arrays", "none")
    assert (found["data"]["selection"], found["data"]["validation_images"]) == ("stratified", 12)


def test_weights_beside_the_file_come_along(given: Path) -> None:
    (given / "net").mkdir()
    onnx.save(
        onnx.load(given / "net.onnx"),
        given / "net/net.onnx",
        save_as_external_data=True,
        location="net.bin",
        size_threshold=0,
    )
    parser = argparse.ArgumentParser()
    onnx_project.add_arguments(parser)
    plan = onnx_project.planned(parser.parse_args(["--onnx", "net/net.onnx", "--data", "images", *SAID]))
    assert plan is not None
    assert plan.copies == {"model/net.onnx": Path("net/net.onnx"), "model/net.bin": Path("net/net.bin")}
    assert (
        "path: model\n"
        in onnx_project.texts(plan, (ROOT / "conf/config.yaml").read_text(), given / "mine")["conf/model/net.yaml"]
    )


def test_an_option_of_the_library_is_not_hidden(given: Path) -> None:
    network(given / "own.onnx")
    found = written(given, "--onnx", "own.onnx", "--data", "images", *SAID)
    assert found["model"]["name"] == "own_mine"
