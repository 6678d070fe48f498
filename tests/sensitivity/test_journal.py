"""The journal of measured models survives a kill in the middle of a line."""

from __future__ import annotations

from pathlib import Path

from enginewright.sensitivity.journal import Journal


def test_a_line_that_was_cut_short_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "journal.jsonl"
    first = Journal(path)
    first.add("a", {"sqnr_db": 12.5})
    first.add("b", {"sqnr_db": 13.5})
    path.write_text(path.read_text()[:-9])
    second = Journal(path)
    assert second.get("a") == {"sqnr_db": 12.5}
    assert second.get("b") is None
    second.add("b", {"sqnr_db": 13.5})
    assert Journal(path).get("b") == {"sqnr_db": 13.5}
    second.finish()
    assert len(Journal(path)) == 0
