"""artifacts/ as the stages before calibrate and build_* leave it, around the tiny residual network."""

from __future__ import annotations

import numpy as np
import onnx

from enginewright import manifest
from enginewright.config import Build
from enginewright.data.imageset import write_classes, write_labels
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.manifest import Usage
from enginewright.runtimes import runtime_named
from support.networks import residual_network
from support.project import PATHS

COUNT = 24


def write_model(seed: int = 0, verdict: str = "pass", paths: Layout = PATHS) -> None:
    """model.onnx [N, 1, 28, 28] -> [N, 5], sealed, and the report of check_onnx."""
    paths.model.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(residual_network(seed, shape=(1, 28, 28)), paths.model)
    usage = Usage(Interface.from_file(paths.model).with_batch())
    manifest.seal(paths.model, "export", [], usage=usage, project=paths)
    write_report(verdict, paths)


def write_report(verdict: str, paths: Layout = PATHS) -> None:
    """The report of check_onnx on the model that lies here, sealed."""
    manifest.write_json(paths.check_report, {"verdict": verdict})
    manifest.seal(paths.check_report, "check_onnx", [paths.model], project=paths)


def write_images(paths: Layout = PATHS) -> None:
    """Calibration images of noise, sealed."""
    folder = paths.calibration_images
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28, 1), dtype=np.uint8))
    write_labels(folder / "labels.csv", [f"{index}.png" for index in range(COUNT)], [-1] * COUNT)
    write_classes(folder / "classes.json", [])
    for path in list(folder.iterdir()):
        manifest.seal(path, "prepare_data", [], project=paths)


def write_target(runtime: str = "onnxruntime", paths: Layout = PATHS) -> None:
    """target.json and calibrator.json as probe_target writes them."""
    manifest.write_json(paths.target, runtime_named(runtime).target_for(Build()).to_dict())
    manifest.write_json(paths.calibrator, {"runtime": "onnxruntime"})
