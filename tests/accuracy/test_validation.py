"""Engines that do not fit on the device together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pandas as pd
import pytest

from enginewright.accuracy.validation import evaluate_all
from enginewright.errors import RuntimeUnavailable, StaleArtifact
from enginewright.manifest import Manifest
from enginewright.runtimes.built import SealedEngine
from support.linear_engines import FP16, FP32, INT8, engines, evaluator


def sealed(engine: Any, fault: Optional[Exception] = None, room: Optional[list[Any]] = None) -> SealedEngine:
    """An engine whose loading raises, or that shares the room for `len(room)` engines with others."""

    class Runtime:
        def load(self, path: Path) -> Any:
            del path
            if fault is not None:
                raise fault
            return Held() if room is not None else engine

    class Held:
        def __enter__(self) -> Any:
            assert room is not None
            if not room:
                raise RuntimeUnavailable("the device has 3 of 80 GiB left")
            room.pop()
            return engine

        def __exit__(self, *exc_info: object) -> None:
            assert room is not None
            room.append(None)

    return SealedEngine(Runtime(), Path("engine"), Manifest("", "", {}, None))  # type: ignore[arg-type]


def test_engines_that_do_not_fit_together_go_beside_fp32_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    one, loaded = evaluator("classification"), engines()
    expected = one.side_by_side(loaded, ["logits"]).evaluations
    room: list[Any] = [None, None]
    found = evaluate_all(
        one, {precision: sealed(engine, room=room) for precision, engine in loaded.items()}, ["logits"]
    )
    assert list(found.evaluations) == [FP32, FP16, INT8]
    for precision, evaluation in expected.items():
        pd.testing.assert_frame_equal(found.evaluations[precision].rows, evaluation.rows)
    assert len(room) == 2, "every engine was closed"
    assert "the engines do not fit together (the device has 3 of 80 GiB left)" in capsys.readouterr().err


def test_two_engines_that_do_not_fit_are_a_fault() -> None:
    loaded = {FP32: sealed(engines()[FP32]), INT8: sealed(None, MemoryError("no room"))}
    with pytest.raises(MemoryError, match="no room"):
        evaluate_all(evaluator("classification"), loaded, ["logits"])


def test_a_stale_engine_is_not_taken_for_one_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = {precision: sealed(engine) for precision, engine in engines().items()}
    loaded[INT8] = sealed(None, StaleArtifact("changed"))
    with pytest.raises(StaleArtifact):
        evaluate_all(evaluator("classification"), loaded, ["logits"])
    assert "do not fit" not in capsys.readouterr().err
