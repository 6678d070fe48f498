"""`enginewright doctor`: what this machine can do, runtime by runtime and task by task, and what to install for the
rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from enginewright import target
from enginewright.errors import RuntimeUnavailable

SUMMARY = "say what this machine can do, runtime by runtime and task by task, and what to install"
EXAMPLES = """examples:
  enginewright doctor
  enginewright doctor --json | jq .runtimes.tensorrt

Exit code 2 if `runtime: auto` finds nothing here that can build and run engines."""

# distribution -> what it is for; TensorRT comes under several names
PACKAGES = {
    "enginewright": "",
    "dvc": "the pipeline",
    "hydra-core": "composition of conf/",
    "omegaconf": "the schema of params.yaml",
    "onnx": "the model's exchange format",
    "onnxruntime": "the portable calibrator and the CPU runtime",
    "onnxruntime-gpu": "the same on a GPU",
    "torch": "training and export",
    "tensorrt": "TensorRT engines",
    "tensorrt_rtx": "TensorRT for RTX engines",
    "pycuda": "device memory for TensorRT",
    "nvidia-ml-py": "power, clocks and temperature of a GPU",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; exit code 2 if `auto` can do nothing."""
    report = examine()
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    if report["auto"]["build and run"] is None:
        raise RuntimeUnavailable(
            "no runtime here can both build and run an engine, so `runtime: auto` has nothing to take; the report says"
            " what to install"
        )
    return 0


def examine() -> dict[str, Any]:
    """Everything that the report shows, JSON-ready. `runtimes.<name>.<task>` is null where the task works, else the
    reason.
    """
    from enginewright.runtimes import AUTO, RUNTIMES, get_runtime, runtime_named
    from enginewright.runtimes.base import Capability

    def auto(*tasks: Capability) -> Optional[str]:
        try:
            return get_runtime(AUTO, *tasks).name
        except RuntimeUnavailable:
            return None

    return {
        "runtimes": {
            name: {task.name: runtime_named(name).why_not(task) for task in Capability} for name in RUNTIMES.names()
        },
        "auto": {
            "calibrate": auto(Capability.calibrate),
            "build": auto(Capability.build),
            "build and run": auto(Capability.build, Capability.run),
        },
        "machine": _machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "disk": _disk(),
    }


def _machine() -> dict[str, Any]:
    sets = target.instruction_sets()
    return {
        "cpu": target.cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": list(sets),
        "int8_dot_product": target.has_int8_dot_product(sets),
        "gpus": _gpus(),
        "l4t": target.l4t_release() or "not a Jetson",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _gpus() -> list[str]:
    """Asked of nvidia-smi: pynvml is an extra, and the driver always brings its tool. Empty on Jetson, whose GPU the
    L4T release stands for.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,compute_cap,driver_version,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return answer.stdout.strip().splitlines() if answer.returncode == 0 else []


def _version(distribution: str) -> Optional[str]:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _disk() -> dict[str, Any]:
    """Space, and how DVC links files between its cache and the workspace, as `dvc doctor` finds by trying."""
    answer = subprocess.run([sys.executable, "-m", "dvc", "doctor"], capture_output=True, text=True, check=False)
    found = dict(line.split(": ", 1) for line in answer.stdout.splitlines() if ": " in line)
    possible = found.get("Cache types", "")
    configured = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "cache.type"], capture_output=True, text=True, check=False
    )
    return {
        "free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "link_types_possible": (
            None if possible.startswith("<") else possible or None
        ),  # a link to an explanation where there is no cache yet
        "link_types_configured": configured.stdout.strip() or None,
        "dvc_repository": "Workspace directory" in found,
    }


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        markup=False, highlight=False, soft_wrap=True
    )  # a remedy may hold brackets: pip install 'enginewright[rtx]'
    tasks = list(next(iter(report["runtimes"].values())))
    table = Table("runtime", *tasks, title="What works here", title_justify="left")
    reasons: dict[
        tuple[str, str], list[str]
    ] = {}  # (runtime, reason) -> tasks, as one reason often holds for all of them
    for name, answers in report["runtimes"].items():
        table.add_row(
            name, *(Text("yes", "green") if answers[task] is None else Text("no", "yellow") for task in tasks)
        )
        for task, reason in answers.items():
            if reason is not None:
                reasons.setdefault((name, reason), []).append(task)
    console.print(table)
    for (name, reason), unable in reasons.items():
        console.print(f"{name} cannot {' or '.join(unable)}: {reason}")
    for task, name in report["auto"].items():
        console.print(f"`runtime: auto` takes {name or 'nothing'} to {task}")
    for title, section in {"machine": report["machine"], "disk": report["disk"]}.items():
        table = Table(title, "", title_justify="left")
        for key, value in section.items():
            table.add_row(
                key.replace("_", " ").replace("gib", "GiB"),
                ", ".join(value) or "none" if isinstance(value, list) else "unknown" if value is None else str(value),
            )
        console.print(table)
    table = Table("package", "version", "for")
    for name, version in report["packages"].items():
        table.add_row(name, version or Text("not installed", "yellow"), PACKAGES[name])
    console.print(table)
