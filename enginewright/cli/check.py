"""`enginewright check`: whether an ONNX file is sound, and whether the parsers of this machine take it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from enginewright.errors import ModelError
from enginewright.layout import Layout

SUMMARY = "check an ONNX file, and ask the parsers that are installed here"
EXAMPLES = """examples:
  enginewright check               the model of this project
  enginewright check model.onnx    any other

What check_onnx reports is the same on every machine. This adds what TensorRT and TensorRT-RTX say here, without a
build.
Exit code 2 if the check or a parser refuses the model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", nargs="?", type=Path, default=Layout().model, help="the ONNX file (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print the report and the answers. Raises ModelError if anything refuses the model."""
    from rich.console import Console
    from rich.markup import escape

    from enginewright.check_onnx import inspect
    from enginewright.check_onnx.machine import ask_parsers, refusals
    from enginewright.views.check_onnx import show

    report = inspect(arguments.model)
    answers = ask_parsers(arguments.model, report)
    whole = dataclasses.replace(report, findings=(*report.findings, *refusals(answers, report)))
    console = Console()
    show(whole, console)
    for name, answer in answers.items():
        console.print(escape(f"{' '.join(filter(None, [name, answer.version]))}: {answer.verdict}"))
    if whole.verdict == "fail":
        raise ModelError(f"{arguments.model} fails its check: {whole.failure()}")
    return 0
