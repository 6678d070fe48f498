"""Sixteen kinds of model, each brought through configuration alone, and how far each gets.

    python -m benchmarks.architectures run [NAME ...] [--projects FOLDER] [--again]
    python -m benchmarks.architectures render

`run` makes a project for each architecture, runs it to a verdict by DVC, builds INT8 by TensorRT-RTX, and keeps what
came of it in benchmarks/results/architectures.json; what is there already is left, unless `--again`. `render` writes
the table and the configurations into docs/models.md. Packages with ONNX files and photographs must be importable: see
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.architectures.project import Project
from benchmarks.architectures.render import DOCUMENT, document
from benchmarks.architectures.table import ARCHITECTURES
from enginewright import target

RESULTS = Path(__file__).parents[1] / "results/architectures.json"
VERSIONS = ("onnxruntime", "onnx", "torch", "tensorrt_rtx", "dvc")


def read() -> dict[str, Any]:
    """What is known so far, by architecture."""
    found: dict[str, Any] = json.loads(RESULTS.read_text())["architectures"] if RESULTS.exists() else {}
    return found


def write(found: dict[str, Any]) -> None:
    """Keep it, in the order of the table."""
    answer = {
        "command": "python -m benchmarks.architectures run",
        "machine": {"cpu": target.cpu_name(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "architectures": {each.name: found[each.name] for each in ARCHITECTURES if each.name in found},
    }
    RESULTS.write_text(json.dumps(answer, indent=2) + "\n")


def run(names: Sequence[str], projects: Path, again: bool) -> None:
    """Run those that are named, or all."""
    for architecture in ARCHITECTURES:
        found = read()
        if (names and architecture.name not in names) or (architecture.name in found and not again):
            continue
        project = Project(architecture, projects / architecture.name)
        project.make()
        found[architecture.name] = project.run()
        write(found)
        print(architecture.name, json.dumps(found[architecture.name]), flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("names", nargs="*", choices=[[], *(each.name for each in ARCHITECTURES)], metavar="NAME")
    running.add_argument("--projects", type=Path, default=Path(tempfile.gettempdir()) / "architectures")
    running.add_argument("--again", action="store_true")
    commands.add_parser("render")
    arguments = parser.parse_args()
    if arguments.command == "render":
        DOCUMENT.write_text(document(DOCUMENT.read_text(), read()))
        return
    run(arguments.names, arguments.projects, arguments.again)


if __name__ == "__main__":
    main()
