from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from enginewright import manifest
from enginewright.calibration import ranges
from enginewright.calibration.recipe import read_recipe
from stages.calibrate import calibrate
from support.checked_model import COUNT, write_images, write_model, write_target
from support.project import PATHS

Run = Callable[[Callable[[], None]], tuple[int, str]]


@pytest.fixture
def ready(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["calibrate"])
    params = configured / "params.yaml"
    params.write_text(params.read_text().replace("bins: 2048", "bins: 256"))
    write_model()
    write_images()
    write_target()
    return configured


def test_it_writes_a_sealed_cache_a_report_and_metrics(ready: Path, run: Run) -> None:
    code, printed = run(calibrate)
    assert code == 0, printed
    made = manifest.verify(PATHS.calibration_cache)
    assert made.target is None
    assert set(made.inputs) == {str(PATHS.model), str(PATHS.calibration_images / "images.npy")}
    ran = {"packages": {"onnxruntime": version("onnxruntime")}}
    assert made.settings == {"algorithm": "entropy", "images": COUNT, "runtime": "onnxruntime", **ran}
    header, *lines = PATHS.calibration_cache.read_text().splitlines()
    scales = {
        name: struct.unpack(">f", bytes.fromhex(digits))[0] for name, digits in (line.rsplit(": ", 1) for line in lines)
    }
    assert header == "TRT-8600-EntropyCalibration2"
    assert len(scales) == 13
    metrics = json.loads((PATHS.metrics_of("calibrate")).read_text())
    assert (metrics["images"], metrics["tensors"]) == (COUNT, 13)
    assert 0 <= metrics["saturation_max"] < 0.1
    report = json.loads((PATHS.calibration_cache.parent / "report.json").read_text())
    assert [row["tensor"] for row in report["tensors"]] == list(scales)


def test_outliers_are_named_on_the_terminal(ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, printed = run(calibrate)
    assert "outliers" not in printed
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("algorithm: entropy", "algorithm: minmax"))
    monkeypatch.setattr(ranges, "OUTLIER_RATIO", 1.001)  # by which some value of noise is always out
    code, printed = run(calibrate)
    assert code == 0
    assert "calibrate: " in printed
    assert "follows them, which costs all other values INT8 steps; try calibration=percentile" in printed


def test_a_second_run_is_byte_identical(ready: Path, run: Run) -> None:
    run(calibrate)
    first = {path.name: path.read_bytes() for path in PATHS.calibration_cache.parent.iterdir()}
    run(calibrate)
    assert {path.name: path.read_bytes() for path in PATHS.calibration_cache.parent.iterdir()} == first
    assert set(first) == {"calib.cache", "calib.cache.json", "report.json", "ranges.csv"}


def test_bias_correction_is_a_sealed_file_that_goes_when_it_is_turned_off(ready: Path, run: Run) -> None:
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("bias_correction: false", "bias_correction: true"))
    code, printed = run(calibrate)
    assert code == 0, printed
    assert set(manifest.verify(PATHS.bias_correction).inputs) == {
        str(PATHS.model),
        str(PATHS.calibration_images / "images.npy"),
    }
    correction = read_recipe(PATHS).bias_correction
    assert correction is not None
    assert {name: values.size for name, values in correction.layers.items()} == {
        "Conv_0": 8,
        "Conv_1": 8,
        "Conv_2": 8,
        "Conv_3": 8,
        "Gemm_0": 5,
    }
    assert json.loads((PATHS.metrics_of("calibrate")).read_text())["corrected_layers"] == 5

    params.write_text(params.read_text().replace("bias_correction: true", "bias_correction: false"))
    assert run(calibrate)[0] == 0
    assert {path.name for path in PATHS.calibration_cache.parent.iterdir()} == {
        "calib.cache",
        "calib.cache.json",
        "report.json",
        "ranges.csv",
    }
    assert read_recipe(PATHS).bias_correction is None


def test_bias_correction_is_refused_where_nothing_can_measure_it(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("bias_correction: false", "bias_correction: true"))
    monkeypatch.setattr("enginewright.calibrate.why_absent", lambda: "onnxruntime is not installed")
    code, printed = run(calibrate)
    assert code == 2
    assert (
        "calibration.bias_correction measures with ONNX Runtime: onnxruntime is not installed; or set it to false"
        in " ".join(printed.split())
    )
    assert not PATHS.calibration_cache.exists()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        pytest.param(
            lambda: PATHS.model.write_bytes(b"cut"),
            "onnx/model.onnx cannot be used: its bytes differ",
            id="model changed",
        ),
        pytest.param(lambda: write_model(verdict="fail"), "did not pass check_onnx", id="model not passed"),
        pytest.param(PATHS.check_report.unlink, "run `dvc repro check_onnx`", id="no report"),
        pytest.param(
            lambda: (PATHS.calibration_images / "images.npy").write_bytes(b"cut"),
            "images.npy cannot be used: its bytes differ",
            id="images cut",
        ),
        pytest.param(
            lambda: PATHS.calibrator.write_text("{"),
            "calibrator.json is missing or no description",
            id="calibrator cut",
        ),
    ],
)
def test_what_is_not_whole_is_refused_and_leaves_no_cache(
    ready: Path, run: Run, damage: Callable[[], object], text: str
) -> None:
    damage()
    code, printed = run(calibrate)
    assert code == 2
    assert text in printed
    assert not PATHS.calibration_cache.exists()
