"""check_onnx in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from enginewright.check_onnx.report import Report, Severity

if TYPE_CHECKING:
    from rich.console import Console

    from enginewright.runtimes.tensorrt.parser import ParserAnswer

FORMAT = 1  # of what `answer` gives


def show(report: Report, console: Optional[Console] = None, title: str = "check_onnx") -> None:
    """Print the findings as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    verdict = report.verdict if title == "check_onnx" else report.judgement
    colour = {"fail": "red", "warn": "yellow", "pass": "green"}[verdict]
    table = Table(title=escape(f"{title}: {verdict}"), title_style=colour, show_lines=True)
    for header in ("", "Finding", "What to do"):
        table.add_column(header, overflow="fold")
    styles = {Severity.fail: "red", Severity.warning: "yellow", Severity.note: "dim"}
    for finding in report.findings:
        table.add_row(
            finding.severity.value, escape(finding.what), escape(finding.remedy), style=styles[finding.severity]
        )
    (console or Console()).print(table)


def answer(path: Path, report: Report, parsers: Mapping[str, ParserAnswer]) -> dict[str, Any]:
    """What `enginewright check --json` prints (docs/check.md): keys are added, never changed."""
    return {
        "format": FORMAT,
        "file": str(path),
        "verdict": report.judgement,
        "opset": report.opset_version,
        "producer": report.producer,
        "ir_version": report.ir_version,
        "inputs": report.tensors.get("inputs", []),
        "outputs": report.tensors.get("outputs", []),
        "operators": dict(report.operators),
        "parameters": report.parameters,
        "findings": [
            {"severity": each.severity.value, "what": each.what, "remedy": each.remedy, "where": each.node}
            for each in report.findings
        ],
        "licence": report.licence,
        "parsers": {
            name: {
                "version": said.version or None,
                "answer": said.verdict,
                "refusals": [str(refusal) for refusal in said.refusals],
            }
            for name, said in parsers.items()
        },
    }
