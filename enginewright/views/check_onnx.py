"""check_onnx in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from enginewright.check_onnx.report import Report, Severity

if TYPE_CHECKING:
    from rich.console import Console


def show(report: Report, console: Optional[Console] = None) -> None:
    """Print the findings as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colour = "red" if report.verdict == "fail" else "green"
    table = Table(title=f"check_onnx: {report.verdict}", title_style=colour, show_lines=True)
    for header in ("", "Finding", "What to do"):
        table.add_column(header, overflow="fold")
    styles = {Severity.fail: "red", Severity.warning: "yellow", Severity.note: "dim"}
    for finding in report.findings:
        table.add_row(
            finding.severity.value, escape(finding.what), escape(finding.remedy), style=styles[finding.severity]
        )
    (console or Console()).print(table)
