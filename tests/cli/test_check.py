"""`enginewright check`: the report of check_onnx, and what the parsers of this machine add to it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from enginewright.check_onnx import Finding, Report, Severity, inspect, machine
from enginewright.check_onnx.machine import LIBRARIES, ask_parsers, refusals
from enginewright.cli import main
from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.parser import ParserAnswer, Refusal
from support.networks import residual_network


def judged(path: Path, *options: str) -> int:
    """The exit code of `enginewright check`."""
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path), *options])
    return int(str(ended.value.code))


@pytest.fixture
def model(here: Path) -> Path:
    onnx.save(residual_network(), here / "model.onnx")
    return here / "model.onnx"


def test_a_sound_model_passes_and_every_parser_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", str(model)])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "model.onnx: pass" in printed
    assert all(f"{package}" in printed for package in LIBRARIES)


def test_a_model_that_is_no_onnx_is_shown_to_no_parser(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "model.onnx").write_bytes(b"\x08\x01")
    assert judged(here / "model.onnx") == 1
    printed = capsys.readouterr()
    assert "not asked, as the model is not valid ONNX" in printed.out
    assert not printed.err


def test_a_parser_adds_the_nodes_that_it_refuses(model: Path) -> None:
    report = inspect(model)
    answers = {"tensorrt": ParserAnswer(version="10.3", refusals=(Refusal("no", "relu", "Relu"),))}
    (finding,) = refusals(answers, report)
    assert finding.sentence() == (
        "the parser of tensorrt 10.3 refuses node 'relu' (Relu): no; replace that operation, or try another opset"
    )


def test_what_the_report_holds_does_not_depend_on_what_is_installed(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = inspect(model)

    def load() -> Bindings:
        raise RuntimeUnavailable("not installed")

    monkeypatch.setattr(machine, "LIBRARIES", {"tensorrt_other": load})
    assert inspect(model) == before
    assert ask_parsers(model, before) == {"tensorrt_other": ParserAnswer(why_not="not installed")}


def test_a_node_without_a_name_that_fails_already_is_named_once() -> None:
    report = Report((Finding(Severity.fail, "node '#3' is of no use", "leave it out", "#3"),), valid=True)
    refused = ParserAnswer(version="10.3", refusals=(Refusal("no", "node_of_x", "Relu", 3), Refusal("no memory")))
    assert [finding.node for finding in refusals({"tensorrt": refused}, report)] == [None]
