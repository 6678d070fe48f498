"""Where a project keeps what: the paths that dvc.yaml lists as outs, below the project's root. It decides no bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

ARTIFACTS = "artifacts"  # the name of the folder, in every project


@dataclass(frozen=True)
class Layout:
    """Every path of one project.

    `Layout()` is the project in the current folder, with relative paths: what a stage script and a command use. The
    library takes a Layout or paths from its caller, so that one process can work on several projects.
    """

    root: Path = Path()

    @property
    def artifacts(self) -> Path:
        """What the pipeline makes, all of it."""
        return self.root / ARTIFACTS

    @property
    def cache(self) -> Path:
        """What may be lost: no DVC out, as DVC removes these before a stage runs."""
        return self.root / ".cache"

    @property
    def target(self) -> Path:
        """Written by probe_target, read by what builds and what measures."""
        return self.artifacts / "target/target.json"

    @property
    def calibrator(self) -> Path:
        """The identity of the calibrator, in a file of its own: a new card keeps the scales."""
        return self.artifacts / "target/calibrator.json"

    @property
    def training(self) -> Path:
        """The folder of the training images."""
        return self.artifacts / "data/training"

    @property
    def calibration_images(self) -> Path:
        """The folder of the calibration images."""
        return self.artifacts / "data/calibration"

    @property
    def sensitivity_images(self) -> Path:
        """The folder of the images that layers are chosen by."""
        return self.artifacts / "data/sensitivity"

    @property
    def validation(self) -> Path:
        """The folder of the validation images."""
        return self.artifacts / "data/validation"

    @property
    def image_sets(self) -> dict[str, Path]:
        """Name of each set -> its folder."""
        return {
            "training": self.training,
            "calibration": self.calibration_images,
            "sensitivity": self.sensitivity_images,
            "validation": self.validation,
        }

    @property
    def reference_weights(self) -> Path:
        """What train_reference writes, unless the weights are the user's own."""
        return self.artifacts / "reference/weights.pt"

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.artifacts / "onnx/model.onnx"

    @property
    def check_report(self) -> Path:
        """The verdict of check_onnx."""
        return self.artifacts / "checks/report.json"

    @property
    def calibration_cache(self) -> Path:
        """calib.cache."""
        return self.artifacts / "calibration/calib.cache"

    @property
    def bias_correction(self) -> Path:
        """Beside calib.cache, only with calibration.bias_correction."""
        return self.artifacts / "calibration/bias_correction.json"

    @property
    def float_decoding(self) -> Path:
        """Beside calib.cache, only for a task whose decoding stays in float."""
        return self.artifacts / "calibration/float_decoding.json"

    @property
    def ranking(self) -> Path:
        """What each layer costs, by analyze_sensitivity."""
        return self.artifacts / "sensitivity/ranking.csv"

    @property
    def mixed_layers(self) -> Path:
        """The layers that search_mixed keeps in FP16."""
        return self.artifacts / "mixed/layers.yaml"

    @property
    def drift(self) -> Path:
        """The folder of check_drift."""
        return self.artifacts / "drift"

    @property
    def engines(self) -> Path:
        """A folder for each precision; see `engine`."""
        return self.artifacts / "engines"

    @property
    def accuracy(self) -> Path:
        """The folder of validate_accuracy."""
        return self.artifacts / "accuracy"

    @property
    def worst_images(self) -> Path:
        """A picture, only of a task whose answers can be drawn."""
        return self.accuracy / "worst.png"

    @property
    def profile(self) -> Path:
        """The folder of profile_layers."""
        return self.artifacts / "profile"

    @property
    def benchmark(self) -> Path:
        """The folder of benchmark_sustained."""
        return self.artifacts / "benchmark"

    @property
    def pareto(self) -> Path:
        """The table of pareto."""
        return self.artifacts / "pareto/pareto.csv"

    @property
    def gate(self) -> Path:
        """The verdict on the whole run."""
        return self.artifacts / "gate/verdict.json"

    @property
    def metrics(self) -> Path:
        """The metrics that git tracks; see `metrics_of`."""
        return self.artifacts / "metrics"

    def metrics_of(self, stage: str) -> Path:
        """The metrics file of a stage."""
        return self.metrics / f"{stage}.json"

    def engine(self, precision: str, file_name: str) -> Path:
        """The engine of a precision; its file name is the runtime's."""
        return self.engines / precision / file_name

    def build_record(self, precision: str) -> Path:
        """Why there is no engine of a precision; only where there is none."""
        return self.engine(precision, "build.json")

    def file(self, name: str) -> Path:
        """A file that the configuration names, relative to the project."""
        return self.root / name

    def name(self, path: Path) -> str:
        """How sidecars, dvc.yaml and messages name a file: relative to the project where it lies in it."""
        absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(self.root))
        if base in absolute.parents:
            return absolute.relative_to(base).as_posix()
        count = len(self.root.parts)
        return Path(*path.parts[count:]).as_posix() if path.parts[:count] == self.root.parts else path.as_posix()


MAKERS = {
    "toolchain": "check_toolchain",
    "target": "probe_target",
    "data": "prepare_data",
    "reference": "train_reference",
    "onnx": "export",
    "checks": "check_onnx",
    "calibration": "calibrate",
    "sensitivity": "analyze_sensitivity",
    "mixed": "search_mixed",
    "drift": "check_drift",
    "accuracy": "validate_accuracy",
    "profile": "profile_layers",
    "benchmark": "benchmark_sustained",
    "pareto": "pareto",
    "gate": "gate",
}  # folder below artifacts/ -> the stage that fills it; dvc.yaml says it too, and a target may lack that


def place_of(path: Path) -> Optional[Path]:
    """The path from artifacts/ on, in whatever project it lies; None if it lies in no folder of that name."""
    parts = Path(os.path.abspath(path)).parts
    if ARTIFACTS not in parts[:-1]:
        return None
    return Path(*parts[len(parts) - 1 - parts[::-1].index(ARTIFACTS) :])


def stage_of(path: Path) -> Optional[str]:
    """The stage that makes a file, by the folder that it lies in; None if no stage does."""
    place = place_of(path)
    if place is None:
        return None
    _, folder, *below = place.parts
    if folder == "engines" and below:
        return f"build_{below[0]}"
    if folder == "metrics" and below:
        return Path(below[0]).stem
    return MAKERS.get(folder)


# What has a sidecar wherever it lies: without one it is half-written, however whole it looks.
# tests/pipeline/test_verified.py holds it complete.
_OF_ANY = Layout()
SEALED = (
    *(f"{ARTIFACTS}/data/*/{name}" for name in ("*.npy", "labels.csv", "classes.json")),
    *(f"{ARTIFACTS}/engines/*/{name}" for name in ("engine.*", "build.json", "reference.onnx")),
    *(
        path.as_posix()
        for path in (
            _OF_ANY.reference_weights,
            _OF_ANY.reference_weights.with_name("README.txt"),  # where the weights are the user's own
            _OF_ANY.model,
            _OF_ANY.check_report,
            _OF_ANY.calibration_cache,
            _OF_ANY.bias_correction,
            _OF_ANY.float_decoding,
            _OF_ANY.worst_images,
            _OF_ANY.ranking,
            _OF_ANY.mixed_layers,
            _OF_ANY.drift / "report.json",
            _OF_ANY.accuracy / "predictions.csv",
            _OF_ANY.accuracy / "metrics.json",
            _OF_ANY.accuracy / "verdict.json",
            _OF_ANY.profile / "layers.csv",
            _OF_ANY.benchmark / "windows.csv",
            _OF_ANY.benchmark / "metrics.json",
            _OF_ANY.pareto,
            _OF_ANY.gate,
        )
    ),
)
