"""prepare_data as a script, on the smallest folder that fills the three sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from enginewright import manifest
from enginewright.data import ImageSet
from stages.prepare_data import prepare_data
from support.project import PATHS

Run = Callable[[Callable[[], None]], tuple[int, str]]


@pytest.fixture
def project(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images of two classes, and params.yaml for them."""
    monkeypatch.setattr(sys, "argv", ["stage"])
    for index in range(30):
        path = configured / f"images/{'ab'[index % 2]}/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (28, 28), dtype=np.uint8)).save(path)
    configure(
        source="image_folder",
        root="images",
        train_images=12,
        calibration_pool=5,
        calibration_images=4,
        sensitivity_images=3,
        validation_images=10,
    )
    return configured


def configure(**data: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["data"].update(data)
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_three_sealed_sets_and_their_counts(project: Path, run: Run) -> None:
    code, printed = run(prepare_data)
    assert code == 0, printed
    metrics = json.loads((PATHS.metrics_of("prepare_data")).read_text())
    assert [metrics[name]["images"] for name in ("training", "calibration", "sensitivity", "validation")] == [
        12,
        4,
        3,
        10,
    ]
    for folder in (
        PATHS.training,
        PATHS.calibration_images,
        PATHS.sensitivity_images,
        PATHS.validation,
    ):
        for file in ImageSet.open(folder).files:
            assert manifest.verify(file).made_by == "prepare_data"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"validation_images": 11}, "31 images are needed", id="too many"),
        pytest.param({"root": "gone"}, "data.root gone is no folder", id="no folder"),
        pytest.param({"preprocessing": {"size": [64, 64]}}, "smaller than the crop", id="small images"),
    ],
)
def test_a_fault_is_one_sentence_and_leaves_nothing(project: Path, run: Run, change: dict[str, Any], text: str) -> None:
    if "preprocessing" in change:
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["data"]["preprocessing"].update(change["preprocessing"])
        params["model"]["inputs"]["input"]["shape"] = ["batch", 1, 64, 64]
        Path("params.yaml").write_text(yaml.safe_dump(params))
    else:
        configure(**change)
    code, printed = run(prepare_data)
    assert code == 2
    assert text in printed
    assert "Traceback" not in printed
    assert not (PATHS.artifacts / "data").exists()
