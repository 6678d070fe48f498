"""The peak memory of each stage on a model of 300 MB, over the size of its ONNX file (goal: three times at most).

Each stage runs as DVC runs it, in a process of its own, in a copy of the project whose model is convolutions and fully
connected layers of random weights. Off its peak is taken what the same stage takes on the small reference model:
interpreter, libraries, images.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project_copy import call, copy_project, environment, write_result

MIB = 2**20
STAGES = ("export", "check_onnx", "calibrate", "analyze_sensitivity", "build_fp32", "build_fp16", "build_int8")
BEFORE = ("check_toolchain", "probe_target", "prepare_data", "train_reference")
GOAL = 3.0
FACTORY = """
import torch
from torch import nn


def large(width=1024):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * width, 8 * width), nn.ReLU(), nn.Linear(8 * width, 5 * width // 2), nn.ReLU(),
        nn.Linear(5 * width // 2, 10),
    )
"""
MODEL = """
name: large
_target_: large_model.large
code: large_model.py
weights: large_model.pt
weights_from: file
inputs: {input: {shape: [batch, 1, 28, 28], dtype: float32}}
outputs: [logits]
"""
IMPORTED = "source: onnx\nname: imported\npath: large.onnx\nweights: ${model.path}\nweights_from: file\n"


def peak_mib(command: Sequence[str], folder: Path) -> float:
    """Run a command to its end; the most resident memory that it had. Its failure ends the benchmark."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read().decode()}")
    return usage.ru_maxrss / 1024


def write_model(project: Path) -> None:
    """The factory, its weights, and the option that names them."""
    (project / "large_model.py").write_text(FACTORY)
    (project / "conf/model/large.yaml").write_text(MODEL)
    saving = "import torch, large_model; torch.save(large_model.large().state_dict(), 'large_model.pt')"
    call([sys.executable, "-c", saving], project)


def measure(project: Path, stages: Sequence[str]) -> dict[str, float]:
    """Peak MiB of each stage, in the order of the pipeline."""
    for stage in BEFORE:
        call([sys.executable, "-m", f"stages.{stage}"], project)
    return {stage: peak_mib([sys.executable, "-m", f"stages.{stage}"], project) for stage in stages}


def main() -> None:
    """Print a table, and write benchmarks/results/model_memory.json with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the figures")
    parser.add_argument("--keep", type=Path, help="measure in this folder and leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = arguments.keep or Path(name)
        if not (project / "params.yaml").exists():
            copy_project(project)
        base = measure(project, STAGES)
        write_model(project)
        call([sys.executable, "-m", "enginewright.cli", "configure", "model=large"], project)
        found = measure(project, STAGES)
        made = project / "artifacts/onnx/model.onnx"
        size = made.stat().st_size / MIB
        shutil.copy(made, project / "large.onnx")
        (project / "conf/model/imported.yaml").write_text(IMPORTED)
        call([sys.executable, "-m", "enginewright.cli", "configure", "model=imported"], project)
        found["export, source onnx"] = peak_mib([sys.executable, "-m", "stages.export"], project)
        base["export, source onnx"] = base["check_onnx"]
    rows = {
        stage: {
            "peak_mib": round(found[stage]),
            "base_mib": round(base[stage]),
            "times_the_file": round((found[stage] - base[stage]) / size, 2),
        }
        for stage in found
    }
    print(json.dumps(rows, indent=2))
    largest = max(row["times_the_file"] for row in rows.values())
    print(f"model.onnx has {size:.0f} MiB; the largest peak is {largest} times that")
    if arguments.write:
        write_result("model_memory", {"model_mib": round(size), "stages": rows, "goal": GOAL})


if __name__ == "__main__":
    main()
