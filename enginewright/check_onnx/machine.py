"""What the parsers of this machine say of a model: true here alone, so no stage that other machines share asks them.

A build asks its own parser before anything else; `enginewright check` asks all of them without building.
"""

from __future__ import annotations

from pathlib import Path

from enginewright.check_onnx.report import Finding, Report, Severity
from enginewright.runtimes.parsers import PARSERS, ParserAnswer, parser_answers


def ask_parsers(path: Path, report: Report) -> dict[str, ParserAnswer]:
    """The answer of each parser; none is asked about a model that is not valid ONNX."""
    if not report.valid:
        return {name: ParserAnswer(why_not="not asked, as the model is not valid ONNX") for name in PARSERS}
    return parser_answers(path)


def refusals(answers: dict[str, ParserAnswer], report: Report) -> list[Finding]:
    """What parsers refuse beyond what the report knows to fail already."""
    known = {finding.node for finding in report.findings if finding.severity is Severity.fail}
    return [
        Finding(
            Severity.fail,
            f"the parser of {package} {answer.version} refuses"
            f" {f'node {error.node!r} ({error.operator})' if error.operator else 'the model'}: {error.message}",
            "replace that operation, or try another opset",
            error.node,
        )
        for package, answer in answers.items()
        for error in answer.errors
        if error.node is None or error.node not in known
    ]
