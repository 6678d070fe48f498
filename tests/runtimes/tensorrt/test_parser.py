"""The one way to ask TensorRT's parser: what it refuses, by node; and why it cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from enginewright.errors import ModelError
from enginewright.runtimes.tensorrt.bindings import import_bindings
from enginewright.runtimes.tensorrt.parser import ParserAnswer, Refusal, parse, parser_answer, read_model
from enginewright.runtimes.tensorrt.session import Session
from enginewright.runtimes.tensorrt_rtx import import_rtx
from support.tensorrt_stand_in.builder import Record, stand_in


def saved(folder: Path, *operators: str, domain: str = "", name: str = "node") -> Path:
    """A chain of operators; with a name each, or none."""
    values = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", 4]) for tensor in ("t0", "out")]
    tensors = ["t0", *(f"t{number}" for number in range(1, len(operators))), "out"]
    nodes = [
        helper.make_node(operator, [tensors[place]], [tensors[place + 1]], name and f"{name}{place}", domain=domain)
        for place, operator in enumerate(operators)
    ]
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:])
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def rtx_or_skip(model: Path) -> None:
    if why_not := parser_answer(import_rtx, model).why_not:
        pytest.skip(why_not)


def test_tensorrt_rtx_accepts_what_it_knows(tmp_path: Path) -> None:
    model = saved(tmp_path, "Relu")
    rtx_or_skip(model)
    answer = parser_answer(import_rtx, model)
    assert (answer.verdict, answer.refusals) == ("accepted", ())
    assert answer.version


@pytest.mark.parametrize(
    ("name", "called"),
    [pytest.param("node", "node0", id="a name"), pytest.param("", "node_of_out", id="no name")],
)
def test_tensorrt_rtx_names_the_node_that_it_refuses(tmp_path: Path, name: str, called: str) -> None:
    model = saved(tmp_path, "Fancy", domain="my.ops", name=name)
    rtx_or_skip(model)
    answer = parser_answer(import_rtx, model)
    assert answer.verdict == "refused"
    assert [(refusal.node, refusal.operator) for refusal in answer.refusals] == [(called, "Fancy")]
    assert "Plugin not found" in answer.refusals[0].message
    with pytest.raises(ModelError, match=rf"tensorrt_rtx [\d.]+ cannot parse .*node '{called}' .*Plugin not"):
        parse(Session(import_rtx()), read_model(model), model)


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0"])
def test_plugins_are_there_before_each_parse(version: str, tmp_path: Path) -> None:
    """8.6's InstanceNormalization is one of NVIDIA's plugins."""
    record, model = Record(), saved(tmp_path, "Relu")
    trt: Any = stand_in(version, record)
    asked: list[str] = []

    class Parser(trt.OnnxParser):
        def parse(self, content: bytes, path: str) -> bool:
            asked.append("parse")
            return bool(super().parse(content, path))

    def plugins(*_: object) -> bool:
        asked.append("plugins")
        return True

    trt.OnnxParser, trt.init_libnvinfer_plugins = Parser, plugins
    for _ in range(2):
        assert parser_answer(lambda: trt, model).verdict == "accepted"
    assert asked == ["plugins", "parse"] * 2


def test_many_refusals_are_counted(tmp_path: Path) -> None:
    model = saved(tmp_path, *(["NoSuchOp"] * 12))
    answer = parser_answer(lambda: stand_in("10.3.0", Record()), model)
    assert [refusal.node for refusal in answer.refusals] == [f"node{number}" for number in range(12)]
    with pytest.raises(ModelError, match=r"node 'node9' \(NoSuchOp\): .*; and 2 more$"):
        parse(Session(stand_in("10.3.0", Record())), read_model(model), model)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        pytest.param(None, "the Python package tensorrt_other is not installed; get it", id="absent"),
        pytest.param(
            "import missing_library",
            "is installed and does not import (No module named 'missing_library'); mend it",
            id="a package of it is missing",
        ),
        pytest.param(
            "raise ImportError('libnvdla_compiler.so: cannot open shared object file')",
            "is installed and does not import (libnvdla_compiler.so: cannot open shared object file); mend it",
            id="a library of the board is missing",
        ),
        pytest.param("", "is not installed, only its type stubs; get it", id="a folder that an uninstalled one left"),
    ],
)
def test_why_a_parser_cannot_be_asked(
    module: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    if module is not None:
        (tmp_path / "modules/tensorrt_other.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(__import__("sys").modules, "tensorrt_other", raising=False)
    answer = parser_answer(lambda: import_bindings("tensorrt_other", "get it", "mend it"), saved(tmp_path, "Relu"))
    assert says in answer.verdict
    assert answer == ParserAnswer(why_not=answer.verdict)


def test_a_refusal_reads_as_a_sentence_of_the_parser() -> None:
    assert str(Refusal("unsupported", "only", "Det")) == "node 'only' (Det): unsupported"
    assert str(Refusal("out of memory")) == "out of memory"
