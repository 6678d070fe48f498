"""Another task through the whole DAG: a class for each pixel, from real images to engines that are judged and timed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest

from enginewright.data.sources.digit_strokes import STROKE
from support.project import Project, checkout, stages

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("tasks")]
SEGMENTATION = (
    *("experiment=digit_segmentation", "train.batch_size=8", "data.train_images=400", "data.validation_images=60"),
    *(
        "data.calibration_pool=40",
        "data.calibration_images=20",
        "data.sensitivity_images=20",
        "benchmark.seconds=0.2",
        "benchmark.batch_curve=[4]",
    ),
)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole DAG of the experiment digit_segmentation after its first `dvc repro`."""
    root = tmp_path_factory.mktemp("segmented") / "project"
    root.mkdir()
    checkout(root)
    project = Project(root)
    project.configure(*SEGMENTATION)
    project.git("init", "-q")
    run = project.repro()
    assert run.code == 0, run.output
    assert run.ran == set(stages()), run.output
    return project


def metrics(project: Project, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / f"artifacts/metrics/{stage}.json").read_text())
    return found


def test_targets_are_the_strokes_of_the_stored_images(segmented: Project) -> None:
    for name in ("training", "calibration", "validation"):
        folder = segmented.root / "artifacts/data" / name
        pixels, targets, table = (
            np.load(folder / "images.npy"),
            np.load(folder / "targets.npy"),
            pd.read_csv(folder / "labels.csv"),
        )
        expected = np.where(pixels[..., 0] > STROKE, table["label"].to_numpy()[:, None, None], 0)
        np.testing.assert_array_equal(targets, expected)
        assert json.loads((folder / "classes.json").read_text()) == ["background", *"0123456789"]


def test_engines_answer_every_pixel_and_are_judged_by_mean_iou(segmented: Project) -> None:
    output = onnx.load(segmented.root / "artifacts/onnx/model.onnx").graph.output[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in output] == ["batch", 11, 28, 28]
    found, trained = metrics(segmented, "validate_accuracy"), metrics(segmented, "train_reference")
    assert found["fp32"]["mean_iou"] == pytest.approx(
        trained["mean_iou"], abs=2e-3
    )  # numpy on the engine, PyTorch on the model
    nothing = (
        np.load(segmented.root / "artifacts/data/validation/targets.npy") == 0
    ).mean() / 11  # of a model that sees background everywhere
    assert found["fp32"]["mean_iou"] > 1.5 * nothing
    assert found["labels"] is True
    assert found["gate"]["figure"] == "mean_iou"
    for precision in ("fp16", "int8"):
        assert (
            found[precision]["mean_iou_difference_low"]
            <= found[precision]["mean_iou_difference"]
            <= found[precision]["mean_iou_difference_high"]
        )
        assert found[precision]["agreement"] > 0.9
    assert metrics(segmented, "build_int8")["int8_share"] > 0.5
    assert metrics(segmented, "benchmark_sustained")["int8"]["offline"]["throughput_images_per_s"] > 0


def test_tables_that_the_plots_read_are_there(segmented: Project) -> None:
    folder = segmented.root / "artifacts/accuracy"
    recall, classes = pd.read_csv(folder / "recall.csv"), pd.read_csv(folder / "classes.csv")
    assert set(recall["precision"]) == {"fp32", "fp16", "int8", "int8_mixed"}
    assert classes["iou_fp32"].mean() == pytest.approx(metrics(segmented, "validate_accuracy")["fp32"]["mean_iou"])
    confusion = pd.read_csv(folder / "confusion_int8.csv")
    assert 0 < len(confusion) < 10_100
    compared = segmented.call("python", "-m", "enginewright.cli", "compare", "--markdown", "--rev", "none")
    assert compared.code == 0, compared.output
    assert "| mean IoU |" in compared.output
    assert re.search(r"int8 (passes|is UNDECIDED): mean IoU is 0\.\d+ \(", compared.output), compared.output
    assert "top-1" not in compared.output
    shown = segmented.call("dvc", "plots", "show", "--json")
    assert shown.code == 0, shown.output


def test_a_changed_target_is_refused(segmented: Project) -> None:
    path = segmented.root / "artifacts/data/validation/targets.npy"
    content = path.read_bytes()
    path.chmod(0o644)
    copy = Path(f"{path}.copy")
    path.rename(copy)
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        run = segmented.stage("validate_accuracy")
        path.unlink()
        absent = segmented.stage("validate_accuracy")
    finally:
        copy.replace(path)
    assert run.code == absent.code == 2, run.output
    assert "targets.npy cannot be used: its bytes differ from the sha256" in run.output
    assert "targets.npy cannot be used: it does not exist, only its sidecar" in absent.output
