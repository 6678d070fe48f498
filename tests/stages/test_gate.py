"""gate on what the stages before it have recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from enginewright import manifest
from enginewright.config import Precision
from enginewright.layout import Layout
from enginewright.results.verdicts import Drift, Judgement, Outcome
from stages.gate import gate

PATHS = Layout()
VERDICT, DRIFT = PATHS.accuracy / "verdict.json", PATHS.drift / "report.json"
REPORTS = (PATHS.profile / "layers.csv", PATHS.pareto)
Run = Callable[[Callable[[], None]], tuple[int, str]]
MIXED = Precision.int8_mixed
PASSED = Judgement((MIXED,), {Precision.int8: Outcome.failed, MIXED: Outcome.passed})
FAILED = Judgement((MIXED,), {MIXED: Outcome.failed}, {MIXED: "top-1 of int8_mixed is 0.2000"})
ALIKE, DRIFTED = Drift("alike"), Drift("not alike in 2 tensors", drifted_tensors=2)


@pytest.fixture
def recorded(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Judgement, Drift], None]:
    """Seal what the stages before it leave."""
    monkeypatch.setattr(sys, "argv", ["gate"])

    def write(judgement: Judgement, drift: Drift) -> None:
        for path, record in ((VERDICT, judgement), (DRIFT, drift)):
            manifest.write_json(path, record.to_json())
        for path in REPORTS:
            path.parent.mkdir(parents=True)
            path.write_text("precision\n")
        for path in (VERDICT, DRIFT, *REPORTS):
            manifest.seal(path, "test", [])

    return write


def found() -> dict[str, Any]:
    written: dict[str, Any] = json.loads((PATHS.metrics / "gate.json").read_text())
    assert manifest.verify(PATHS.gate).made_by == "gate"
    assert json.loads(PATHS.gate.read_text()) == written
    return written


class Case(NamedTuple):
    """What the stages before it found, and what becomes of the pipeline."""

    judgement: Judgement
    sentence: str  # of the fault; empty where it goes on
    verdict: str
    passed: bool = False
    drift: Drift = ALIKE
    fails_on_drift: bool = False


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(PASSED, "", "passed", passed=True, fails_on_drift=True), id="all is well"),
        pytest.param(Case(PASSED, "", "passed", passed=True, drift=DRIFTED), id="drift is a warning"),
        pytest.param(Case(PASSED, "not alike in 2", "passed", drift=DRIFTED, fails_on_drift=True), id="drift stops"),
        pytest.param(Case(FAILED, "top-1 of int8_mixed is 0.2000", "failed"), id="a gated engine failed"),
        pytest.param(Case(Judgement((MIXED,)), "int8_mixed is gated and was not judged", "failed"), id="no engine"),
        pytest.param(Case(Judgement(()), "", "not gated"), id="nothing is gated"),
    ],
)
def test_it_fails_after_it_has_written_the_verdict(
    recorded: Callable[[Judgement, Drift], None], run: Run, case: Case
) -> None:
    recorded(case.judgement, case.drift)
    params = Path("params.yaml").read_text()
    assert "  fail: false\n" in params
    Path("params.yaml").write_text(params.replace("  fail: false\n", f"  fail: {str(case.fails_on_drift).lower()}\n"))
    code, printed = run(gate)
    assert code == (2 if case.sentence else 0), printed
    assert f"error: gate: {case.sentence}" in printed or not case.sentence
    assert case.verdict in printed
    written = found()
    assert (written["verdict"], written["passed"]) == (case.verdict, case.passed)
    assert bool(written["reasons"]) is bool(case.sentence)


@pytest.mark.parametrize("path", [VERDICT, DRIFT, *REPORTS], ids=lambda path: path.name)
def test_what_it_reads_must_be_whole(recorded: Callable[[Judgement, Drift], None], run: Run, path: Path) -> None:
    recorded(PASSED, ALIKE)
    path.write_text(path.read_text() + " ")
    code, printed = run(gate)
    assert code == 2
    assert f"error: gate: {path} cannot be used: its bytes differ" in printed
    assert not PATHS.gate.exists()
