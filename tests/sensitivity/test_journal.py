"""The journal of measured models survives a kill in the middle of a line, and no line is taken that is not as it was
written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from enginewright.sensitivity import inputs
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


def without_digest(line: str) -> str:
    entry = json.loads(line)
    del entry["sha256"]
    return json.dumps(entry)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda line: line.replace("12.5", "999"), id="a figure"),
        pytest.param(lambda line: line.replace('"a"', '"c"'), id="the model"),
        pytest.param(lambda line: line.replace("sqnr_db", "top1"), id="a name"),
        pytest.param(without_digest, id="no hash"),
        pytest.param(lambda line: line.replace("{", "[", 1), id="no JSON"),
        pytest.param(lambda _: "[1, 2]", id="a list"),
        pytest.param(lambda _: '{"model": [], "figures": 3, "sha256": ""}', id="other types"),
        pytest.param(lambda _: "[" * 10000, id="deep"),
    ],
)
def test_a_line_that_was_edited_is_measured_again_and_counted(tmp_path: Path, edit: Callable[[str], str]) -> None:
    path = tmp_path / "journal.jsonl"
    written = Journal(path)
    written.add("a", {"sqnr_db": 12.5})
    written.add("b", {"sqnr_db": 13.5, "nested": {"low": 0.1}})
    _, first, second = path.read_text().split("\n")
    path.write_text("\n".join(["", edit(first), second]))
    found = Journal(path)
    assert (found.get("a"), found.get("c"), found.dropped) == (None, None, 1)
    assert found.get("b") == {"sqnr_db": 13.5, "nested": {"low": 0.1}}


def test_a_line_of_another_journal_is_measured_again(tmp_path: Path) -> None:
    Journal(tmp_path / "one.jsonl").add("a", {"sqnr_db": 12.5})
    (tmp_path / "one.jsonl").rename(tmp_path / "two.jsonl")
    found = Journal(tmp_path / "two.jsonl")
    assert (found.get("a"), found.dropped) == (None, 1)


def test_a_journal_is_of_one_version_of_the_code_the_packages_and_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import onnxruntime

    package = tmp_path / "enginewright"
    for part in ("accuracy", "sensitivity", "calibration"):
        (package / part).mkdir(parents=True)
        (package / part / "metrics.py").write_text("one = 1\n")
    for part in ("manifest.py", "results.py", "target.py"):
        (package / part).write_text("")
    monkeypatch.setattr(inputs, "__file__", str(package / "sensitivity/inputs.py"))
    seen = [inputs._measured_with()]
    assert inputs._measured_with() == seen[0]
    for part in ("accuracy", "sensitivity", "calibration"):
        (package / part / "metrics.py").write_text("one = 2\n")
        seen.append(inputs._measured_with())
    monkeypatch.setattr(onnxruntime, "__version__", "1.0")
    seen.append(inputs._measured_with())
    monkeypatch.setattr(inputs, "instruction_sets", lambda: ("none",))
    seen.append(inputs._measured_with())
    assert len({"\n".join(one) for one in seen}) == len(seen) == 6
