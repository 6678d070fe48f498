"""The parsers of TensorRT and TensorRT-RTX, where this machine has them, and how their absence reads."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from enginewright.runtimes.parsers import PARSERS, ParserAnswer, ParserError, parser_answers


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path, "Relu")


def saved(folder: Path, operator: str, domain: str = "") -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "output")]
    graph = helper.make_graph(
        [helper.make_node(operator, ["input"], ["output"], "only", domain=domain)], "tiny", values[:1], values[1:]
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def require(package: str, model: Path) -> None:
    if why_not := parser_answers(model)[package].why_not:
        pytest.skip(f"{package}: {why_not}")


@pytest.mark.parametrize("package", PARSERS)
def test_a_parser_accepts_what_it_knows(package: str, model: Path) -> None:
    require(package, model)
    answer = parser_answers(model)[package]
    assert (answer.verdict, answer.errors) == ("accepted", ())
    assert answer.version


@pytest.mark.parametrize("package", PARSERS)
def test_a_parser_names_the_node_that_it_refuses(package: str, model: Path, tmp_path: Path) -> None:
    require(package, model)
    answer = parser_answers(saved(tmp_path, "Fancy", "my.ops"))[package]
    assert answer.verdict == "refused"
    assert [(error.node, error.operator) for error in answer.errors] == [("only", "Fancy")]
    assert "Plugin not found" in answer.errors[0].message


@pytest.mark.parametrize(
    ("module", "text"),
    [
        pytest.param(None, "not installed", id="absent"),
        pytest.param(
            "import missing_library",
            "installed, but its import fails: No module named 'missing_library'",
            id="a package of it is missing",
        ),
        pytest.param(
            "raise ImportError('libnvdla_compiler.so: cannot open shared object file')",
            "installed, but its import fails: libnvdla_compiler.so: cannot open shared object file",
            id="a library of the board is missing",
        ),
    ],
)
def test_why_a_parser_cannot_be_asked(
    module: str | None, text: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model.parent / "modules").mkdir()
    if module is not None:
        (model.parent / "modules/tensorrt_other.py").write_text(module)
    monkeypatch.syspath_prepend(model.parent / "modules")
    monkeypatch.setattr("enginewright.runtimes.parsers.PARSERS", ("tensorrt_other",))
    assert parser_answers(model) == {"tensorrt_other": ParserAnswer(why_not=text)}
    assert parser_answers(model)["tensorrt_other"].verdict == text


def test_a_folder_left_by_an_uninstalled_package_is_no_parser(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model.parent / "modules/tensorrt_left").mkdir(parents=True)
    monkeypatch.syspath_prepend(model.parent / "modules")
    monkeypatch.setattr("enginewright.runtimes.parsers.PARSERS", ("tensorrt_left",))
    assert parser_answers(model)["tensorrt_left"].verdict == "not installed"


def test_a_refusal_is_an_answer_with_errors() -> None:
    assert ParserAnswer(version="10.3", errors=(ParserError("only", "Det", "unsupported"),)).verdict == "refused"
