"""No key of the committed metrics is lost or renamed on the way through the records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from enginewright.config import Precision
from enginewright.results.calibration import CalibrationResult, RangesResult
from enginewright.results.layers import EngineLayers, ProfileResult
from enginewright.results.shape import SampleShape
from enginewright.results.verdicts import Drift
from enginewright.views.committed import read_accuracy, read_speed
from enginewright.views.metrics import of_accuracy, of_calibration, of_drift, of_profile, of_speed
from support.project import ROOT


def committed(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"artifacts/metrics/{stage}.json").read_text())
    return found


def test_the_metrics_of_accuracy_come_back() -> None:
    content = committed("validate_accuracy")
    assert content["gate"]["int8"]["sqnr_db_verdict"], "the project's own figures have every section"
    assert of_accuracy(read_accuracy(content)) == content


def test_the_metrics_of_speed_come_back() -> None:
    content = committed("benchmark_sustained")
    assert content["ratio"]["offline"]
    assert of_speed(read_speed(content)) == content


PROFILE = ProfileResult(8, {Precision.int8: EngineLayers(2, 0.5, {"int8": 1.0}, "conv", 0.3)}, {"won": 2}, ())
CALIBRATION = CalibrationResult(500, 1.5, 0, RangesResult(23, 0, 0.001, "logits"))


@pytest.mark.parametrize(
    ("stage", "made"),
    [
        pytest.param("calibrate", of_calibration(CALIBRATION), id="calibrate"),
        pytest.param(
            "check_drift",
            of_drift(
                Drift(
                    "alike",
                    images={"calibration": 1, "validation": 1},
                    tensors=(
                        {
                            "tensor": "logits",
                            "severity": 0.1,
                            "distance": 0.02,
                            "percentile_ratio": 1.03,
                            "validation_saturated": 0.2,
                            "calibration_saturated": 0.1,
                        },
                    ),
                )
            ),
            id="check_drift",
        ),
    ],
)
def test_a_stage_has_the_keys_that_are_committed(stage: str, made: dict[str, Any]) -> None:
    assert made.keys() == committed(stage).keys()


def test_a_profile_has_the_keys_that_are_committed() -> None:
    content, made = committed("profile_layers"), of_profile(PROFILE)
    assert made["int8"].keys() == content["int8"].keys()
    assert made.keys() == content.keys() - {"fp32", "fp16", "int8_mixed", "shape"}


SHAPES = [
    SampleShape({"images": (3, 480, 640), "flag": ()}, 40, 40, 1),
    SampleShape({"an image": (3, 480, 640)}, 12, 40, 3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=["one shape", "several"])
def test_a_shape_comes_back(shape: SampleShape) -> None:
    result = read_accuracy({**committed("validate_accuracy"), "shape": shape.says()})
    assert result.shape is not None
    assert result.shape.says() == shape.says()
    assert result.shape.inputs == shape.inputs


WHOLE = {
    "batch_1": {"rounds": 9, "engine_ms_p50": 2.0, "postprocess_ms_p50": 1.0, "preprocess_absent": "no sizes"},
    "batch_32": {"rounds": 5, "preprocess_ms_p50": 3.0, "engine_ms_p50": 40.0, "images_per_s_whole": 500.0},
}


def test_the_whole_way_comes_back_in_the_order_of_the_batches() -> None:
    content = committed("benchmark_sustained")
    content["int8"]["whole"] = dict(sorted(WHOLE.items(), reverse=True))
    read = read_speed(content)
    assert [way.batch_size for way in read.engines[Precision.int8].whole] == [1, 32]
    assert read.engines[Precision.int8].whole[0].absent == {"preprocess": "no sizes"}
    assert of_speed(read)["int8"] == content["int8"]


def test_what_nobody_saw_is_no_metric() -> None:
    assert of_drift(Drift("drift was not checked: no onnxruntime", observed=False)) == {"observed": False}
    assert "saturation_max" not in of_calibration(CalibrationResult(500, 1.5, 0, RangesResult(23, 0)))
    assert "int8_blocks" not in of_profile(ProfileResult(8, {}, None, ()))
