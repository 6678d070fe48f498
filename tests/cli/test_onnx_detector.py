"""`enginewright init --onnx` of a detector: its contract by shapes, the choice where they leave one, and its preset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from enginewright.cli import init, onnx_project
from enginewright.cli.onnx_detector import PRESETS
from enginewright.config import ContractName
from enginewright.errors import ConfigError, DataError, ModelError

SIDE = 64  # of the input; in grids of strides 8, 16 and 32 there are 84 cells
Outputs = Sequence[tuple[str, Sequence[int]]]
YOLOX: Outputs = [("output", (84, 8))]
YOLO: Outputs = [("output0", (7, 84))]
END_TO_END: Outputs = [("output0", (30, 6))]
DETR: Outputs = [("dets", (30, 4)), ("labels", (30, 3)), ("masks", (30, 16, 16))]


def network(path: Path, outputs: Outputs, more: Sequence[str] = (), names_axes: bool = False) -> None:
    """Each output is an even answer: the mean of the image, `more` operators after it, and a bias.

    `names_axes`: the file calls the axes of outputs by names of their own, as torch.onnx.export does beside an open
    batch.
    """
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0)]
    last = "mean"
    for index, operator in enumerate(more):
        nodes.append(helper.make_node(operator, [last], [f"more{index}"]))
        last = f"more{index}"
    tensors = []
    for name, shape in outputs:
        sizes = list(shape)
        tensors += [
            numpy_helper.from_array(np.ones((1, *sizes), np.float32), f"{name}_bias"),
            numpy_helper.from_array(np.array([-1, *[1] * len(sizes)], np.int64), f"{name}_shape"),
        ]
        nodes.append(helper.make_node("Reshape", [last, f"{name}_shape"], [f"{name}_mean"]))
        nodes.append(helper.make_node("Mul", [f"{name}_mean", f"{name}_bias"], [name]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(
                name,
                TensorProto.FLOAT,
                ["N", *(f"{name}_{place}" if names_axes else axis for place, axis in enumerate(shape))],
            )
            for name, shape in outputs
        ],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def given(here: Path) -> Path:
    """Thirty images without labels."""
    rng = np.random.default_rng(0)
    (here / "images").mkdir()
    for index in range(30):
        Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(here / f"images/{index:02}.png")
    return here


def planned(*arguments: str) -> onnx_project.Plan:
    parser = argparse.ArgumentParser()
    onnx_project.add_arguments(parser)
    plan = onnx_project.planned(parser.parse_args(["--onnx", "net.onnx", "--data", "images", *arguments]))
    assert plan is not None
    return plan


def model_of(plan: onnx_project.Plan, root: Path) -> str:
    config = (Path(onnx_project.__file__).parents[2] / "conf/config.yaml").read_text()
    return onnx_project.texts(plan, config, root / "mine")[f"conf/model/{plan.name}.yaml"]


@pytest.mark.parametrize(
    ("outputs", "contract", "classes", "preset"),
    [
        pytest.param(YOLO, "yolo", 3, "ultralytics", id="yolo"),
        pytest.param(END_TO_END, "end2end", None, "ultralytics", id="end2end"),
        pytest.param(DETR, "detr", 3, "rfdetr", id="detr"),
    ],
)
def test_the_only_contract_that_shapes_allow_is_taken_and_said(
    given: Path, outputs: Outputs, contract: str, classes: Any, preset: str
) -> None:
    network(given / "net.onnx", outputs)
    plan = planned("--task", "detection", "--preprocess", preset)
    many = "" if classes is None else f", {classes} classes"
    assert f"  contract: {contract}, the only one that the shapes allow{many}" in plan.said
    assert f"detection: {{contract: {contract}}}" in model_of(plan, given)


@pytest.mark.parametrize(
    ("outputs", "contract"),
    [
        pytest.param(YOLO, "yolo", id="yolo"),
        pytest.param(END_TO_END, "end2end", id="end2end"),
        pytest.param(DETR, "detr", id="detr"),
    ],
)
def test_outputs_that_the_file_leaves_open_are_measured(given: Path, outputs: Outputs, contract: str) -> None:
    network(given / "net.onnx", outputs, names_axes=True)
    plan = planned("--task", "detection", "--preprocess", "unit")
    assert any(line.startswith(f"  contract: {contract}, the only one") for line in plan.said)


@pytest.mark.parametrize(
    ("operators", "hint"),
    [
        pytest.param(
            [],
            "(the graph has no operator Exp, without which nothing decodes sizes: yolox_raw, most likely)",
            id="without Exp",
        ),
        pytest.param(
            ["Exp"], "(the graph has an operator Exp, as decoding takes it: yolox, most likely)", id="with Exp"
        ),
    ],
)
def test_shapes_of_several_contracts_are_asked_about(given: Path, operators: list[str], hint: str) -> None:
    network(given / "net.onnx", YOLOX, operators)
    with pytest.raises(ConfigError) as refused:
        planned("--task", "detection", "--preprocess", "yolox")
    assert str(refused.value).startswith(
        "--contract is missing, and the outputs output [N, 84, 8] may be of several; choose yolox: [N, anchors, 5"
    )
    assert str(refused.value).endswith(hint)


def test_a_contract_that_is_given_is_taken(given: Path) -> None:
    network(given / "net.onnx", YOLOX)
    plan = planned("--task", "detection", "--preprocess", "yolox", "--contract", "yolox_raw")
    assert "  contract: yolox_raw, as given, 3 classes" in plan.said
    assert "detection: {contract: yolox_raw}" in model_of(plan, given)


@pytest.mark.parametrize(
    ("outputs", "arguments", "fault", "sentence"),
    [
        pytest.param(
            YOLOX,
            ["--task", "detection", "--contract", "yolx"],
            ConfigError,
            "--contract yolx is no contract; did you mean 'yolox'?",
            id="name",
        ),
        pytest.param(
            YOLO,
            ["--task", "detection", "--contract", "detr"],
            ModelError,
            "the outputs of the model are 'output0' [N, 7, 84], and model.task detection judges detr: boxes",
            id="of other shapes",
        ),
        pytest.param(
            [("scores", (10,))],
            ["--task", "detection"],
            ModelError,
            "the outputs of the model are 'scores' [N, 10], and model.task detection judges yolo: [N, 4 +",
            id="no detector",
        ),
        pytest.param(
            YOLO,
            ["--task", "outputs", "--contract", "yolo"],
            ConfigError,
            "--contract yolo goes with --task detection; leave it out",
            id="of another task",
        ),
        pytest.param(
            DETR,
            ["--task", "detection", "--output", "det"],
            ConfigError,
            "--output det is no output of the model; did you mean 'dets'?",
            id="output",
        ),
        pytest.param(
            YOLO,
            ["--task", "detection"],
            ConfigError,
            "--preprocess is missing, and the file does not say how images become its input; of the contract yolo most"
            " take --preprocess ultralytics; choose what the model was trained with:\n  caffe ",
            id="how images are fed",
        ),
        pytest.param(
            YOLOX,
            [],
            ConfigError,
            "--task is missing, and the file does not say what its output means; it has a detector's shapes (--task"
            " detection: yolox, yolox_raw); choose one of ",
            id="task",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    given: Path, outputs: Outputs, arguments: list[str], fault: type[Exception], sentence: str
) -> None:
    network(given / "net.onnx", outputs)
    with pytest.raises(fault) as refused:
        planned(*arguments)
    assert str(refused.value).startswith(sentence)


def test_every_contract_has_a_preset() -> None:
    assert set(PRESETS) == {contract.name for contract in ContractName}


def boxes_of(names: Sequence[str]) -> str:
    """A box in each image."""
    return json.dumps(
        {
            "images": [{"id": index, "file_name": name} for index, name in enumerate(names)],
            "annotations": [
                {"id": index + 1, "image_id": index, "category_id": 1 + index % 3, "bbox": [1, 1, 4, 4]}
                for index in range(len(names))
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "owl"}],
        }
    )


CHOSEN = ("--task", "detection", "--preprocess", "ultralytics")
NAMES = [f"{index:02}.png" for index in range(30)]


@pytest.mark.parametrize(
    ("file", "names", "data", "root"),
    [
        pytest.param("set/images/boxes.json", NAMES, "set/images", "set/images", id="beside the images"),
        pytest.param("set/boxes.json", NAMES, "set", "set/images", id="above the images"),
        pytest.param("set/annotations/val.json", NAMES, "set", "set/images", id="in a folder of its own"),
        pytest.param("set/boxes.json", [f"images/{name}" for name in NAMES], "set", "set", id="names with the folder"),
    ],
)
def test_the_json_of_boxes_in_the_folder_is_found(
    given: Path, file: str, names: Sequence[str], data: str, root: str
) -> None:
    network(given / "net.onnx", YOLO)
    (given / "set").mkdir()
    (given / "images").rename(given / "set/images")
    (given / file).parent.mkdir(exist_ok=True)
    (given / file).write_text(boxes_of(names))
    plan = planned("--data", data, *CHOSEN)
    assert (plan.data["source"], plan.data["root"]) == ("coco", (given / root).resolve())
    assert plan.copies[plan.data["labels"]] == Path(file)
    assert f"data: {data}, 30 samples of 3 classes, boxes by {file}" in plan.said
    assert "selection" not in plan.data  # stratified, by the classes of boxes


def test_labels_of_yolo_are_found_and_what_is_held_out_validates(given: Path) -> None:
    network(given / "net.onnx", YOLO)
    for index, name in enumerate(NAMES):
        folder = "val" if index % 3 == 0 else "train"
        for kind in ("images", "labels"):
            (given / "set" / kind / folder).mkdir(parents=True, exist_ok=True)
        (given / "images" / name).rename(given / "set/images" / folder / name)
        (given / "set/labels" / folder / name).with_suffix(".txt").write_text(f"{index % 3} 0.5 0.5 0.4 0.4\n")
    (given / "set/data.yaml").write_text("names: [cat, dog, owl]\n")
    plan = planned("--data", "set", *CHOSEN)
    assert (plan.data["source"], plan.data["root"]) == ("yolo_labels", (given / "set").resolve())
    assert plan.data["validation_images"] == 10
    assert (plan.data["sensitivity_images"], plan.data["calibration_pool"]) == (6, 14)
    assert "data: set, 30 samples of 3 classes, boxes by set/labels" in plan.said


@pytest.mark.parametrize(
    ("files", "arguments", "sentence"),
    [
        pytest.param(
            {"labels.csv": "file,class\n"},
            ["--labels", "labels.csv"],
            "--labels labels.csv is not COCO's JSON of instances, which a detector's boxes are read from; give that",
            id="a table of classes",
        ),
        pytest.param(
            {"images/a.json": boxes_of(NAMES), "images/b.json": boxes_of(NAMES)},
            [],
            "--data images holds 2 JSON files of boxes (images/a.json, images/b.json); choose with --labels",
            id="several",
        ),
        pytest.param(
            {"images/a.json": boxes_of([*NAMES, "no.png"])},
            [],
            "data.labels images/a.json lists 1 file that is no image in images, such as no.png",
            id="what the source refuses",
        ),
    ],
)
def test_boxes_that_cannot_be_read_are_said(
    given: Path, files: dict[str, str], arguments: list[str], sentence: str
) -> None:
    network(given / "net.onnx", YOLO)
    for name, text in files.items():
        (given / name).write_text(text)
    with pytest.raises((ConfigError, DataError)) as refused:
        planned(*CHOSEN, *arguments)
    assert str(refused.value).replace(f"{given}/", "").startswith(sentence)


def test_a_model_of_other_classes_is_refused(given: Path) -> None:
    network(given / "net.onnx", [("output0", (9, 84))])
    (given / "images/boxes.json").write_text(boxes_of(NAMES))
    with pytest.raises(ConfigError, match=r"^the output output0 \[N, 9, 84\] has 5 classes, and images names 3; list"):
        planned(*CHOSEN)


@pytest.mark.parametrize(
    ("outputs", "contract", "files"),
    [
        pytest.param(YOLOX, "yolox_raw", ["search.yaml", "yolox.yaml"], id="yolox_raw"),
        pytest.param(YOLO, "yolo", ["search.yaml", "yolo.yaml"], id="yolo"),
        pytest.param(END_TO_END, "end2end", ["search.yaml", "yolo.yaml"], id="end2end"),
        pytest.param(DETR, "detr", ["search.yaml"], id="detr"),
    ],
)
def test_a_project_has_the_pinned_mixture_of_its_head(
    given: Path, outputs: Outputs, contract: str, files: list[str]
) -> None:
    network(given / "net.onnx", outputs)
    plan = planned("--task", "detection", "--contract", contract, "--preprocess", PRESETS[contract])
    init._write_files(given / "mine", plan)
    assert sorted(path.name for path in (given / "mine/layers").iterdir()) == files
