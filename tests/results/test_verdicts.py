"""Records: they come back from JSON as they went, and a gate passes on nothing but passed engines."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from enginewright.config import Precision
from enginewright.results.builds import BuildOutcome, BuildState
from enginewright.results.verdicts import Drift, Judgement, Outcome

PASSED, UNDECIDED, FAILED = Outcome.passed, Outcome.undecided, Outcome.failed
INT8, MIXED = Precision.int8, Precision.int8_mixed


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(BuildOutcome(INT8, BuildState.built, figures={"size_mib": 1.5, "findings": ["a"]}), id="built"),
        pytest.param(BuildOutcome(INT8, BuildState.failed, "node 'a' (Foo): no"), id="refused"),
        pytest.param(BuildOutcome(MIXED, BuildState.absent), id="absent"),
        pytest.param(Judgement((MIXED,), {INT8: FAILED, MIXED: PASSED}, {}), id="passed"),
        pytest.param(Judgement((INT8,), {INT8: FAILED}, {INT8: "top-1 is 0.1"}), id="stopped"),
        pytest.param(Judgement(()), id="nothing"),
        pytest.param(Drift("alike in all 3 tensors"), id="no drift"),
        pytest.param(Drift("not alike in 2 tensors", drifted_tensors=2), id="drift"),
    ],
)
def test_a_record_comes_back_from_json(record: BuildOutcome | Judgement | Drift) -> None:
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (BuildOutcome(INT8, BuildState.absent), "int8 was not asked for (build.precisions)"),
        (BuildOutcome(INT8, BuildState.failed, "no scales"), "int8 was refused by build_int8: no scales"),
    ],
    ids=["absent", "refused"],
)
def test_why_there_is_no_engine_is_a_sentence(outcome: BuildOutcome, sentence: str) -> None:
    assert outcome.says() == sentence


@pytest.mark.parametrize(
    ("gated", "judged", "stopping", "verdict", "reasons"),
    [
        pytest.param([MIXED], {MIXED: PASSED}, {}, "passed", [], id="it passed"),
        pytest.param([MIXED], {INT8: FAILED, MIXED: PASSED}, {}, "passed", [], id="one that is not gated failed"),
        pytest.param([INT8], {INT8: UNDECIDED}, {}, "undecided", [], id="undecided engines only warn"),
        pytest.param([INT8], {INT8: UNDECIDED}, {INT8: "close"}, "undecided", ["close"], id="undecided ones stop"),
        pytest.param([INT8], {INT8: FAILED}, {INT8: "low"}, "failed", ["low"], id="it failed"),
        pytest.param([INT8], {INT8: FAILED}, {}, "failed", ["int8 is gated and failed"], id="without a sentence"),
        pytest.param([MIXED], {}, {}, "failed", ["int8_mixed is gated and was not judged"], id="no engine was judged"),
        pytest.param(
            [INT8, MIXED],
            {INT8: PASSED},
            {},
            "failed",
            ["int8_mixed is gated and was not judged"],
            id="one of two was not judged",
        ),
        pytest.param([], {INT8: PASSED}, {}, "not gated", [], id="nothing is gated"),
    ],
)
def test_the_verdict_is_the_worst_of_what_is_gated(
    gated: list[Precision],
    judged: Mapping[Precision, Outcome],
    stopping: Mapping[Precision, str],
    verdict: str,
    reasons: list[str],
) -> None:
    judgement = Judgement(tuple(gated), judged, stopping)
    assert (judgement.verdict, list(judgement.reasons())) == (verdict, reasons)
    assert judgement.passed is (verdict == "passed")


@pytest.mark.parametrize(
    ("drift", "reasons"),
    [
        pytest.param(Drift("alike"), [], id="alike"),
        pytest.param(
            Drift("not alike", drifted_tensors=1),
            ["not alike (artifacts/drift/drift.csv); or set check_drift.fail=false"],
            id="drifted",
        ),
        pytest.param(
            Drift("drift was not checked: no onnxruntime", observed=False),
            ["drift was not checked: no onnxruntime; or set check_drift.fail=false"],
            id="what is unknown did not pass",
        ),
    ],
)
def test_drift_stops_whom_it_shall_stop(drift: Drift, reasons: list[str]) -> None:
    assert list(drift.reasons()) == reasons
