"""The committed metrics are what views make of the records that they are read as: no key is lost or renamed."""

from __future__ import annotations

import json
from typing import Any

from enginewright.views.committed import read_accuracy, read_speed
from enginewright.views.metrics import of_accuracy, of_speed
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
