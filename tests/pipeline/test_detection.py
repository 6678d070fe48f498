"""A detector through the whole DAG: scenes with boxes to engines that are judged by mAP and timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest

from enginewright.data import ImageSet
from enginewright.data.sources.digit_scenes import SCENES, Scenes
from enginewright.data.sources.digits import mnist
from enginewright.graph.decoding import decoding, layers_of
from enginewright.layout import Layout
from support.project import Project, checkout, stages

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("detection")]
SHORT = (
    *("experiment=digit_detection", "train.epochs=3", "train.minimum_metric=0.0", "data.train_images=400"),
    *("data.validation_images=60", "data.calibration_pool=40", "data.calibration_images=20"),
    *("data.sensitivity_images=20", "search_mixed.evaluations=4", "accuracy=report_only"),
    *("benchmark.seconds=0.2", "benchmark.batch_curve=[4]"),
)


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole DAG of the experiment digit_detection, shortened, after its first `dvc repro`."""
    root = tmp_path_factory.mktemp("detected") / "project"
    root.mkdir()
    checkout(root)
    project = Project(root)
    project.configure(*SHORT)
    project.git("init", "-q")
    run = project.repro()
    assert run.code == 0, run.output
    assert run.ran == set(stages()), run.output
    return project


def metrics(project: Project, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / f"artifacts/metrics/{stage}.json").read_text())
    return found


def test_sets_hold_the_scenes_and_their_boxes_and_share_no_digit_with_validation(detected: Project) -> None:
    scenes, paths = Scenes(*mnist("digit_scenes")), Layout(detected.root)
    digits: dict[str, set[int]] = {}
    for folder in (paths.training, paths.calibration_images, paths.sensitivity_images, paths.validation):
        images = ImageSet.open(folder)
        numbers = [int(name) for name in images.names]
        assert images.targets is not None
        for number, pixels, boxes in zip(numbers, images.arrays["images"], images.targets):
            assert np.array_equal(pixels[..., 0], scenes.pixels(number))
            assert np.array_equal(boxes, scenes.boxes(number))
        digits[folder.name] = {digit for number in numbers for digit in scenes.digits(number)}
        assert all((number >= SCENES) == (folder == paths.validation) for number in numbers)
    judged = digits.pop(paths.validation.name)
    assert not any(judged & others for others in digits.values())


def test_engines_are_judged_by_map_and_the_contract_is_told_by_shape(detected: Project) -> None:
    output = onnx.load(detected.root / "artifacts/onnx/model.onnx").graph.output[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in output] == ["batch", 14, 320]
    found, trained = metrics(detected, "validate_accuracy"), metrics(detected, "train_reference")
    # numpy on the engine, PyTorch on the model, which counts 300 boxes of an image
    assert found["fp32"]["map50_95"] == pytest.approx(trained["map50_95"], abs=5e-3)
    assert found["labels"] is True
    assert found["gate"]["figure"] == "map50_95"
    for precision in ("fp16", "int8", "int8_mixed"):
        assert (
            found[precision]["map50_95_difference_low"]
            <= found[precision]["map50_95_difference"]
            <= found[precision]["map50_95_difference_high"]
        )
    assert metrics(detected, "build_int8")["int8_share"] == 1  # the decoding too
    assert metrics(detected, "benchmark_sustained")["int8"]["offline"]["throughput_images_per_s"] > 0


def test_the_search_finds_the_decoding_and_nobody_named_it(detected: Project) -> None:
    model = onnx.load(detected.root / "artifacts/onnx/model.onnx")
    (expectation,) = layers_of(model, decoding(model, ["detections"]))
    assert not (detected.root / "artifacts/calibration/float_decoding.json").exists()
    ranking = pd.read_csv(detected.root / "artifacts/sensitivity/ranking.csv")
    assert ranking["layers"].iloc[0] == expectation
    trials = pd.read_csv(detected.root / "artifacts/mixed/trials.csv", keep_default_na=False)
    first = trials["layers"].astype(str)
    assert all(layers == "" or expectation in layers.split() for layers in first), first.tolist()


def test_the_report_names_the_metric(detected: Project) -> None:
    folder = detected.root / "artifacts/accuracy"
    assert {"ap_fp32", "ap_int8"} <= set(pd.read_csv(folder / "classes.csv"))
    compared = detected.call("python", "-m", "enginewright.cli", "compare", "--markdown", "--rev", "none")
    assert compared.code == 0, compared.output
    assert "| mAP50-95 |" in compared.output
    assert "top-1" not in compared.output


def test_a_changed_box_is_refused(detected: Project) -> None:
    path = detected.root / "artifacts/data/validation/targets.npy"
    content = path.read_bytes()
    path.chmod(0o644)
    copy = Path(f"{path}.copy")
    path.rename(copy)
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        run = detected.stage("validate_accuracy")
    finally:
        path.unlink()
        copy.replace(path)
    assert run.code == 2, run.output
    assert "targets.npy cannot be used: its bytes differ from the sha256" in run.output
