"""One architecture as a project of its own: made by `enginewright init`, configured, run by DVC, and read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import enginewright
from benchmarks.architectures import preparation
from benchmarks.architectures.table import OWN, Architecture
from enginewright.interface import Interface
from enginewright.layout import Layout

# What every row has beside its own: sets that two cores get through in a minute, and no search for the last layer.
COMMON = """\
runtime: onnxruntime
data: {calibration_pool: 64, calibration_images: 64, sensitivity_images: 64, validation_images: 64, selection: random}
calibration: {batch_size: 8}
analyze_sensitivity: {evaluations: 12, batch_size: 8}
search_mixed: {evaluations: 6}
accuracy: {batch_size: 8}
profile_layers: {batch_size: 8}
benchmark: {batch_size: 8, batch_curve: [1, 8]}
build: {optimization_level: 0, compute_capabilities: ['8.6']}
"""
TIMEOUT_SECONDS = 1500
INT8 = ("int8", "int8_mixed")


@dataclass(frozen=True)
class Ran:
    """A command that came to its end, or to the limit of time."""

    code: int
    printed: str
    seconds: float

    @property
    def sentence(self) -> str:
        """What it says where it failed."""
        found = re.findall(r"^error: (.*(?:\n(?!\S*:|ERROR).+)*)", self.printed, re.MULTILINE)
        return " ".join(found[-1].split()) if found else " ".join(self.printed.split()[-60:])

    @property
    def traceback(self) -> bool:
        """Whether a fault of ours was shown."""
        return "Traceback (most recent call last)" in self.printed


class Project:
    """The folder of one architecture."""

    def __init__(self, architecture: Architecture, folder: Path) -> None:
        self.architecture, self.folder, self.paths = architecture, folder, Layout(folder)

    def make(self) -> None:
        """Start anew: `enginewright init`, the user's files, and the configuration."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._expect(self.call(["-m", "enginewright.cli", "init", str(self.folder)], self.folder.parent))
        for name, source in self.architecture.files.items():
            shutil.copyfile(source_file(source), self.folder / name)
        if self.architecture.prepare:
            getattr(preparation, self.architecture.prepare)(self.folder)
        experiment = self.folder / f"conf/experiment/{self.architecture.name}.yaml"
        experiment.parent.mkdir(parents=True, exist_ok=True)
        experiment.write_text(
            f"# @package _global_\n{self.architecture.configuration}experiment: {self.architecture.name}\n"
        )
        config = self.folder / "conf/config.yaml"
        config.write_text(f"{config.read_text()}{COMMON}")

    def run(self) -> dict[str, Any]:
        """Configure and run it to a verdict on ONNX Runtime, then build INT8 by TensorRT-RTX; what came of both."""
        found: dict[str, Any] = {}
        configured = self.call(["-m", "enginewright.cli", "configure", f"experiment={self.architecture.name}"])
        ran = self._repro("validate_accuracy") if configured.code == 0 else configured
        found["verdict"] = self._judged() if ran.code == 0 else {"sentence": ran.sentence}
        found["seconds"] = round(configured.seconds + (ran.seconds if ran is not configured else 0), 1)
        found["tracebacks"] = int(ran.traceback)
        if ran.code == 0:
            found["inputs"] = self._inputs()
            found["tensorrt_rtx"] = rtx = self._rtx()
            found["tracebacks"] += rtx.pop("traceback")
        return found

    def _rtx(self) -> dict[str, Any]:
        configured = self.call(["-m", "enginewright.cli", "configure", "runtime=tensorrt_rtx"])
        ran = self._repro("build_int8") if configured.code == 0 else configured
        if ran.code:
            return {"sentence": ran.sentence, "traceback": int(ran.traceback)}
        built = self._metrics("build_int8")
        if built["outcome"] != "built":
            return {"outcome": built["outcome"], "sentence": built["reason"], "traceback": 0}
        answer = {"outcome": "built", "seconds": round(built["seconds"], 1), "traceback": 0}
        return {**answer, "int8": built["int8"]["layers"], "size_mib": round(built["size_mib"], 1)}

    def _inputs(self) -> str:
        """`images [batch, 3, 64, 64]`, with the type where it is not float32."""
        specs = Interface.from_file(self.paths.model).inputs
        typed = [(spec, "" if spec.dtype.name == "float32" else f"{spec.dtype.name} ") for spec in specs]
        return ", ".join(f"{spec.name} {kind}[{', '.join(map(str, spec.shape))}]" for spec, kind in typed)

    def _judged(self) -> dict[str, Any]:
        metrics, builds = self._metrics("validate_accuracy"), self._metrics("build_int8")
        gate = metrics["gate"]
        figure = gate["figure"]
        answer: dict[str, Any] = {"figure": figure, "fp32": metrics["fp32"].get(figure), "images": metrics["images"]}
        for precision in (name for name in INT8 if name in metrics):
            judged = gate.get(precision, {})
            answer[precision] = {
                "verdict": judged.get("verdict"),
                figure: metrics[precision].get(figure),
                "sqnr_db": metrics[precision].get("sqnr_db"),
                **({"outputs": metrics[precision]["outputs"]} if "outputs" in metrics[precision] else {}),
            }
        answer["int8_layers"] = builds.get("int8", {}).get("layers")
        answer["fp16_sqnr_db"] = metrics.get("fp16", {}).get("sqnr_db")
        return answer

    def _metrics(self, stage: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.paths.metrics_of(stage).read_text())
        return found

    def _repro(self, stage: str) -> Ran:
        return self.call(["-m", "dvc", "repro", stage])

    def call(self, command: Sequence[str], folder: Optional[Path] = None) -> Ran:
        """Run this interpreter, in the project."""
        start = time.perf_counter()
        answer = subprocess.run(
            [sys.executable, *command],
            cwd=folder or self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
        return Ran(answer.returncode, answer.stdout, time.perf_counter() - start)

    def _expect(self, ran: Ran) -> None:
        if ran.code:
            sys.exit(f"{self.architecture.name}: {ran.printed}")


def environment() -> Mapping[str, str]:
    """The one in which `exec python -m ...` finds this interpreter and this checkout."""
    root = Path(enginewright.__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "1000",
    }


def source_file(source: str) -> Path:
    """A file of OWN, or of an installed package: `ddddocr:common_det.onnx`."""
    package, _, name = source.rpartition(":")
    return preparation.package_file(package, name) if package else OWN / name
