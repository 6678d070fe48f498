"""What the parsers of this machine say of a model: true here alone, so no stage that other machines share asks them.

A build asks its own parser before anything else; `enginewright check` asks all of them without building.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from enginewright.check_onnx.report import Finding, Report, Severity
from enginewright.runtimes.tensorrt.bindings import import_tensorrt
from enginewright.runtimes.tensorrt.parser import ParserAnswer, parser_answer
from enginewright.runtimes.tensorrt_rtx import import_rtx

LIBRARIES = {"tensorrt": import_tensorrt, "tensorrt_rtx": import_rtx}


def ask_parsers(path: Path, report: Report) -> dict[str, ParserAnswer]:
    """The answer of each library's parser; none is asked about a model that is not valid ONNX."""
    if not report.valid:
        return {name: ParserAnswer(why_not="not asked, as the model is not valid ONNX") for name in LIBRARIES}
    return {name: parser_answer(load, path) for name, load in LIBRARIES.items()}


def refusals(answers: dict[str, ParserAnswer], report: Report, taken_out: Collection[str] = ()) -> list[Finding]:
    """What parsers refuse beyond what the report knows to fail already.

    Args:
        answers: of each library.
        report: on the same file.
        taken_out: operators that do not reach a parser in the pipeline.
    """
    known = {finding.node for finding in report.findings if finding.severity is Severity.fail}
    return [
        Finding(
            Severity.fail,
            f"the parser of {package} {answer.version} refuses"
            f" {f'node {refusal.node!r} ({refusal.operator})' if refusal.operator else 'the model'}: {refusal.message}",
            "replace that operation, or try another opset",
            refusal.node or None,
        )
        for package, answer in answers.items()
        for refusal in answer.refusals
        if known.isdisjoint({refusal.node, f"#{refusal.place}"})  # as `reading` calls a node without a name
        and refusal.operator not in taken_out
    ]
