"""How much memory validate_accuracy takes at its peak, by the number of images and the size of the outputs (goal: all
within 20 % of each other).

Each case runs the stage's own code, tables and verdict included, in a process of its own, over four engines that answer
from a small table: what grows is what the stage keeps. Images are 28 x 28, written to a temporary folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from benchmarks.project_copy import write_result
from enginewright import manifest
from enginewright.accuracy import validation
from enginewright.accuracy.evaluate import Evaluator
from enginewright.config import Params, Precision
from enginewright.data import ImageSet
from enginewright.data.columns import RowWriter
from enginewright.data.imageset import write_classes, write_labels
from enginewright.feeds import Feeds
from enginewright.interface import AxisRange, Interface, TensorSpec
from enginewright.layout import Layout
from enginewright.runtimes.base import LoadOptions, Outputs, Runtime
from enginewright.runtimes.built import Engines, SealedEngine
from enginewright.runtimes.host import HostEngine
from enginewright.stage import Stage
from enginewright.target import TargetFingerprint
from enginewright.tasks import get_task

MIB = 2**20
SIDE = 28
TARGET = TargetFingerprint("a table in memory", None, "table", "1")
NOISE = {Precision.fp32: 0.0, Precision.fp16: 1e-4, Precision.int8: 0.02, Precision.int8_mixed: 0.01}
Array = npt.NDArray[Any]


class Case(NamedTuple):
    """A model and an image set."""

    images: int
    shape: tuple[int, ...]  # of the output for one image
    task: str

    @property
    def answers(self) -> int:
        """How many different ones there are: the tables of all engines together take a few megabytes."""
        return max(2, min(512, MIB // int(np.prod(self.shape))))


CASES = {
    "10k": Case(10_000, (2000,), "classification"),
    "50k": Case(50_000, (2000,), "classification"),
    "200k": Case(200_000, (2000,), "classification"),
    "detector": Case(2_000, (84, 8400), "outputs"),
}


def table(case: Case) -> Array:
    """FP32's answers, float32 [answers, *shape]; an image has the one that its first pixel says."""
    return np.random.default_rng(0).normal(size=(case.answers, *case.shape)).astype(np.float32)


class TableEngine(HostEngine):
    """Answers rows of a table."""

    def __init__(self, path: Path, answers: Array) -> None:
        """`answers`: [answers, *shape]."""
        inputs = (TensorSpec("input", np.dtype(np.float32), ("batch", 1, SIDE, SIDE)),)
        outputs = (TensorSpec("logits", np.dtype(np.float32), ("batch", *answers.shape[1:])),)
        super().__init__(path, Interface(inputs, outputs), {"batch": AxisRange(1, 64, 128)})
        self._answers = answers

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        """New arrays, as every engine gives them."""
        del rows
        chosen = np.rint(feeds["input"][:, 0, 0, 0]).astype(int) % len(self._answers)
        return {"logits": self._answers[chosen]}


class TableRuntime(Runtime):
    """Loads the engine that a file names."""

    name, engine_file = "table", "engine.table"

    def __init__(self, case: Case) -> None:
        """`case`: whose answers its engines give."""
        self._case = case

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> TableEngine:
        """The table, with noise of its own for each precision."""
        del options
        answers, precision = table(self._case), Precision[engine.parent.name]
        noise = np.random.default_rng(1 + list(Precision).index(precision)).normal(size=answers.shape)
        answers += np.float32(NOISE[precision]) * noise.astype(np.float32)
        return TableEngine(engine, answers)


def write_project(root: Path, case: Case) -> None:
    """Images whose labels FP32 knows, and files that stand for the engines."""
    paths, random = Layout(root), np.random.default_rng(2)
    paths.validation.mkdir(parents=True)
    rows = random.integers(0, min(case.answers, 256), case.images)
    whole = (case.images, SIDE, SIDE, 1)
    with RowWriter(paths.validation / "images.npy", np.dtype(np.uint8), whole) as writer:
        for index, row in enumerate(rows):
            pixels = random.integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)
            pixels[0, 0, 0] = row
            writer.write(index, pixels)
    labelled = case.task == "classification"
    labels = table(case).argmax(axis=1)[rows] if labelled else np.full(case.images, -1)
    write_labels(paths.validation / "labels.csv", [f"{index:06}.png" for index in range(case.images)], list(labels))
    write_classes(paths.validation / "classes.json", [f"class {index}" for index in range(case.shape[0])])
    for path in list(paths.validation.iterdir()):
        manifest.seal(path, "prepare_data", [], project=paths)
    for precision in Precision:
        engine = paths.engine(precision.value, TableRuntime.engine_file)
        engine.parent.mkdir(parents=True)
        engine.write_text(precision.value)
        manifest.seal(engine, f"build_{precision.value}", [], TARGET, {"precision": precision.value}, project=paths)


def validate(root: Path, case: Case) -> None:
    """What stages/validate_accuracy.py does, with these engines."""
    params, paths = Params(), Layout(root)
    params.data.preprocessing = dataclasses.replace(params.data.preprocessing, scale=1.0, mean=[0.0], std=[1.0])
    runtime = TableRuntime(case)
    files = {precision: paths.engine(precision.value, TableRuntime.engine_file) for precision in Precision}
    engines = Engines(
        {precision: SealedEngine(runtime, path, manifest.verify(path)) for precision, path in files.items()}, {}
    )
    evaluator = Evaluator(
        get_task(case.task),
        ImageSet.open(paths.validation),
        params.data.preprocessing,
        params.accuracy.batch_size,
        shows_progress=False,
    )
    judged = validation.evaluate_all(evaluator, engines.to_judge(), ["logits"])
    validation.record(Stage("validate_accuracy", params, paths), evaluator, engines, judged, TARGET)


def peak_mib() -> float:
    """The most resident memory that this process has had (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


def measure(case: str, folder: Path) -> float:
    """Peak MiB of one case, in a process of its own: only there a peak is that of the case."""
    write_project(folder, CASES[case])
    command = [sys.executable, "-m", "benchmarks.validation_memory", "--inside", case, str(folder)]
    answer = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return float(answer.stdout.splitlines()[-1])


def main() -> None:
    """Print a table, and write benchmarks/results/validation_memory.json with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", nargs=2, metavar=("CASE", "FOLDER"), help="run one case here and print its peak")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    arguments = parser.parse_args()
    if arguments.inside:
        case, folder = arguments.inside
        validate(Path(folder), CASES[case])
        print(peak_mib())
        return
    found = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, Path(folder))
        print(f"{case.images:>8,} images, {list(case.shape)}: {found[name]:6.0f} MiB", flush=True)
    spread = max(found.values()) / min(found.values())
    print(f"the largest is {spread:.2f} times the smallest")
    if arguments.write:
        write_result("validation_memory", {"peak_mib": found, "largest_to_smallest": spread})


if __name__ == "__main__":
    main()
