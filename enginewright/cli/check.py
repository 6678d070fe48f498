"""`enginewright check`: whether an ONNX file is sound, what the pipeline can do with it, and whether the parsers here
take it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from enginewright.errors import ModelError, StaleArtifact
from enginewright.layout import Layout

SUMMARY = "judge an ONNX file, and ask the parsers that are installed here"
EXAMPLES = """examples:
  enginewright check model.onnx          any file, from any folder
  enginewright check model.onnx --json   the same for a program (docs/check.md)
  enginewright check                     the model of this project

It reads the file and what lies beside it, and builds nothing."""
EXIT_CODES = (
    "exit codes: 0 the verdict is pass or warn, 1 it is fail, 2 there is no such file (one sentence), 130 interrupted"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", nargs="?", type=Path, help=f"the ONNX file (in a project {Layout().model})")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Print the report and the answers; 1 if anything refuses the model. Raises ModelError if there is no file."""
    from rich.console import Console
    from rich.markup import escape

    from enginewright.check_onnx import inspect, judge
    from enginewright.check_onnx.machine import ask_parsers, refusals
    from enginewright.check_onnx.origin import PAIR
    from enginewright.views.check_onnx import answer, show

    path = _file(arguments.model)
    with _quiet() if arguments.json else contextlib.nullcontext():
        made_here, opset = _export(path)
        report = inspect(path, opset) if made_here else judge(path)
        answers = ask_parsers(path, report)
    whole = report.with_more(refusals(answers, report, () if made_here else PAIR))
    if arguments.json:
        print(json.dumps(answer(path, whole, answers), indent=2))
        return int(whole.verdict == "fail")
    console = Console()
    show(whole, console, title=path.name)
    if whole.licence:
        console.print(escape(f"licence, as the file says: {whole.licence}"))
    for name, said in answers.items():
        console.print(escape(f"{' '.join(filter(None, [name, said.version]))}: {said.verdict}"))
    return int(whole.verdict == "fail")


def _file(given: Optional[Path]) -> Path:
    """The file to judge. Raises ModelError where there is none."""
    path = given or Layout().model
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.onnx"))
        raise ModelError(f"{path} is a folder; give a file" + (f", such as {path / inside[0]}" if inside else ""))
    try:
        with path.open("rb"):
            return path
    except FileNotFoundError:
        remedy = "check the path" if given else "give one, or run `dvc repro export` in a project"
        raise ModelError(f"{path} does not exist; {remedy}") from None
    except (OSError, ValueError) as fault:
        raise ModelError(f"{path} cannot be read ({getattr(fault, 'strerror', None) or fault}); check it") from None


def _export(path: Path) -> tuple[bool, Optional[int]]:
    """Whether the stage export wrote a file, which is then judged as the stage check_onnx does, and its opset."""
    from enginewright import manifest

    try:
        made = manifest.read(path) if manifest.sidecar(path).exists() else None
    except StaleArtifact:
        made = None
    opset = made.settings.get("opset_version") if made is not None else None
    return made is not None and made.made_by == "export", opset if isinstance(opset, int) else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let libraries write to stderr what they write to stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
