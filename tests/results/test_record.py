"""Records come back from JSON as they went, and what is not theirs is one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from enginewright.config import Precision, ScenarioName
from enginewright.errors import StaleArtifact
from enginewright.results.accuracy import AccuracyResult, Difference, EngineAccuracy, Gate, Held, Verdict
from enginewright.results.calibration import CalibrationResult, RangesResult
from enginewright.results.layers import EngineLayers, ProfileResult, SensitivityResult
from enginewright.results.origin import Origin
from enginewright.results.pareto import ParetoResult, ParetoRow
from enginewright.results.record import Record, RecordFault
from enginewright.results.speed import EngineSpeed, LoadSettings, LoadSpeed, SpeedResult, WholeSpeed
from enginewright.results.verdicts import Outcome

FP32, INT8 = Precision.fp32, Precision.int8
ORIGIN = Origin({"device": "Test CPU", "runtime": "null", "runtime_version": "1"}, "a" * 64)
METRIC = Held(Outcome.undecided, "top1", 0.97, 0.96, 0.98, 0.965, "0.99 x 0.9747", 1000, 4000)
NOISE = Held(Outcome.passed, "sqnr_db", 30.0, -math.inf, math.inf, 10.0, "accuracy.minimum_sqnr_db", 1, None)
ACCURACY = AccuracyResult(
    {
        FP32: EngineAccuracy("b", {"top1": 0.98}),
        INT8: EngineAccuracy(
            "c",
            {"top1": 0.97, "identical_to_fp32": False, "outputs": {"logits": {"cosine": 0.99}}},
            Difference("top1", -0.01, -0.02, None),
            ("less than half runs in INT8",),
            "onnxruntime",
            {"artifacts/model.onnx": "a"},
        ),
    },
    {Precision.fp16: "fp16 was not asked for (build.precisions)"},
    Gate("relative", "top1", "undecided", passed=False, if_undecided="fail", engines={INT8: Verdict(METRIC, NOISE)}),
    labels=True,
    images=1000,
    confidence=0.95,
    origin=ORIGIN,
)
SPEED = SpeedResult(
    {
        FP32: EngineSpeed(
            "b",
            {ScenarioName.offline: LoadSpeed({"queries": 3}, {"driver": "own"})},
            {},
            {"max": 9.5},
            (WholeSpeed(1, {"engine_ms_p50": 2.0}, {"preprocess": "there is no image"}),),
        )
    },
    LoadSettings((ScenarioName.offline,), 32, 10.0, 1.0, 1.0),
    ORIGIN,
    {"python": "3.11"},
    "2026-11-26T08:00+00:00",
    {},
)
ROW = ParetoRow(INT8, "c", "none", "offline", 10.0, None, "top1", 1.0, 1.0, 1.0, None, Outcome.passed, front=True)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(ACCURACY, id="accuracy"),
        pytest.param(SPEED, id="speed"),
        pytest.param(
            ProfileResult(8, {INT8: EngineLayers(2, 0.5, {"int8": 1.0}, "conv", 0.3)}, {"won": 2}, ()), id="profile"
        ),
        pytest.param(CalibrationResult(500, 1.5, 0, RangesResult(23, 0)), id="calibration"),
        pytest.param(SensitivityResult(300, 21, 10, 10, 4e-4, 0.4, {"top1": 0.98}), id="sensitivity"),
        pytest.param(ParetoResult((ROW,), ("int8 is slower than fp16",)), id="pareto"),
    ],
)
def test_a_record_comes_back_from_a_sorted_file(record: Record) -> None:
    text = json.dumps(record.to_json(), sort_keys=True, allow_nan=False)
    again = type(record).from_json(json.loads(text))
    assert again == record
    if isinstance(again, AccuracyResult):
        assert list(again.engines) == [FP32, INT8], "FP32 comes first, whatever the file's order"


def changed(keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(ACCURACY.to_json()))
    *above, last = keys
    node = content
    for key in above:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param([], "it is [], and must be an object", id="list"),
        pytest.param(changed(("labels",), None), "the key 'labels' is missing", id="missing"),
        pytest.param(changed(("imagse",), 3), "the key 'imagse' is unknown; did you mean 'images'?", id="unknown"),
        pytest.param(
            changed(("engines", "int8", "difference", "low"), None),
            "the key 'low' of 'engines.int8.difference' is missing",
            id="missing below",
        ),
        pytest.param(changed(("engines", "int9"), {}), "holds 'int9'; did you mean 'int8'?", id="precision"),
        pytest.param(
            changed(("gate", "engines", "int8", "metric", "outcome"), "passing"),
            "gate.engines.int8.metric.outcome holds 'passing'",
            id="outcome",
        ),
        pytest.param(changed(("images",), "1000"), "images is '1000', and must be a whole number", id="text"),
        pytest.param(changed(("images",), True), "images is True, and must be a whole number", id="true is no number"),
        pytest.param(changed(("labels",), 1), "labels is 1, and must be true or false", id="one is not true"),
        pytest.param(
            changed(("engines", "int8", "findings"), "x"),
            "engines.int8.findings is 'x', and must be a list",
            id="text is no list",
        ),
    ],
)
def test_what_a_record_does_not_have_is_named(content: object, sentence: str) -> None:
    with pytest.raises(RecordFault) as refused:
        AccuracyResult.from_json(content)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("{}", "the key 'engines' is missing", id="empty"),
        pytest.param("{", "Expecting property name", id="no JSON"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
def test_a_file_without_the_record_names_itself_and_its_stage(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StaleArtifact) as refused:
        AccuracyResult.read(path, "validate_accuracy")
    said = str(refused.value)
    assert said.startswith(f"{path} is not what validate_accuracy of this version writes (")
    assert why in said
    assert said.endswith("; run `dvc repro validate_accuracy`")
