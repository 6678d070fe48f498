"""What benchmark_sustained shows in the terminal of the whole way of an image."""

from __future__ import annotations

import pytest

from enginewright.config import Precision
from enginewright.results.origin import Origin
from enginewright.results.speed import EngineSpeed, SpeedResult, WholeSpeed
from enginewright.views.benchmark import show

FIGURES = {"engine_ms_p50": 4.0, "postprocess_ms_p50": 0.25, "images_per_s_engine": 250.0, "images_per_s_whole": 200.0}


def shown(capsys: pytest.CaptureFixture[str], *ways: WholeSpeed) -> list[str]:
    engines = {
        precision: EngineSpeed("0", {}, {}, {"max": 1.0}, ways) for precision in (Precision.fp32, Precision.int8)
    }
    show(SpeedResult(engines, None, Origin({}), {}, "today", {}), "")
    return capsys.readouterr().out.splitlines()


def row(lines: list[str], name: str) -> list[str]:
    """The cells of a row of a table, without its name."""
    (line,) = (line for line in lines if line.strip("\u2502 ").startswith(name))
    return [cell.strip() for cell in line.strip("\u2502").split("\u2502")[1:]]


def test_the_parts_and_what_they_come_to_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, WholeSpeed(4, {**FIGURES, "preprocess_ms_p50": 1.5}))
    assert any(line.startswith("whole way of an image, batch 4") for line in lines)
    assert row(lines, "preprocessing p50 (ms)") == ["1.500"] * 2
    assert row(lines, "engine p50 (ms)") == ["4.000"] * 2
    assert row(lines, "postprocessing p50 (ms)") == ["0.250"] * 2
    assert row(lines, "images/s, engine alone") == ["250.0"] * 2
    assert row(lines, "images/s, all in turn") == ["200.0"] * 2


def test_a_part_that_is_not_there_has_no_row_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, WholeSpeed(1, FIGURES, {"preprocess": "there is no image"}))
    assert not [line for line in lines if "preprocessing p50" in line]
    assert lines.count("no preprocessing: there is no image") == 1, "said once for all engines"


def test_nothing_is_shown_of_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert not [line for line in shown(capsys) if "whole way" in line]
