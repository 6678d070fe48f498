"""A project as the stages before validate_accuracy and benchmark_sustained leave it, with engines that are linear
classifiers.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pytest

from enginewright import config, manifest
from enginewright.config import Precision
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import to_input
from enginewright.feeds import Feeds
from enginewright.interface import Interface, TensorSpec, up_to
from enginewright.manifest import Usage
from enginewright.runtimes import RUNTIMES
from enginewright.runtimes.base import LoadOptions, Outputs, Runtime
from enginewright.runtimes.host import HostEngine
from enginewright.target import TargetFingerprint
from support.project import PATHS

ROOT = Path(__file__).resolve().parents[2]
IMAGES, CLASSES = 60, 10
TARGET = TargetFingerprint("Test CPU", None, "linear", "1.0")
INTERFACE = Interface(
    (TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28)),),
    (TensorSpec("logits", np.dtype(np.float32), ("batch", CLASSES)),),
)
USAGE = Usage(INTERFACE)


class LinearEngine(HostEngine):
    """Answers images @ weights, and holds the weights that its engine file holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, INTERFACE, up_to(128))
        self._weights = np.load(path)

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        return {"logits": feeds["input"].reshape(rows, -1) @ self._weights}

    def phase_seconds(self, feeds: Feeds, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        self.check(feeds)
        return {"h2d": np.full(repeats, 2e-3)}

    def device_seconds(self, feeds: Feeds, repeats: int) -> npt.NDArray[np.float64]:
        self.check(feeds)
        return np.full(repeats, 1e-3)


class LinearRuntime(Runtime):
    name, engine_file = "linear", "engine.npy"

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> LinearEngine:
        del options
        manifest.verify(engine, TARGET)
        return LinearEngine(engine)


Weights = Mapping[str, npt.NDArray[np.float32]]
Project = Callable[..., Path]


@pytest.fixture
def weights() -> dict[str, npt.NDArray[np.float32]]:
    """INT8 is 8 bits of FP32; FP16 is rounded to half precision."""
    fp32 = np.random.default_rng(0).normal(size=(28 * 28, CLASSES)).astype(np.float32)
    scale = np.abs(fp32).max() / 127
    int8 = np.round(fp32 / scale).astype(np.float32) * scale
    return {
        "fp32": fp32,
        "fp16": fp32.astype(np.float16).astype(np.float32),
        "int8": int8,
        "int8_mixed": fp32 * np.float32(1.001),
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Lay out the artifacts in an empty folder and go there; `labelled=False` drops the labels, the rest changes
    params.
    """

    def make(weights: Weights, labelled: bool = True, **changes: Mapping[str, Any]) -> Path:
        import yaml

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["stage"])
        for name in ("dvc.yaml", "toolchain.yaml"):
            shutil.copy(ROOT / name, tmp_path)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["accuracy"]["minimum_ratio"] = 0.9  # 60 images can show no more: equal answers on all of them reach 0.94
        for section, values in changes.items():
            params[section].update(values)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        manifest.write_json(PATHS.target, TARGET.to_dict())
        _write_images(weights["fp32"], labelled)
        for precision in Precision:
            engine = PATHS.engine(precision.value, LinearRuntime.engine_file)
            engine.parent.mkdir(parents=True)
            np.save(engine, weights[precision.value])
            manifest.seal(engine, f"build_{precision.value}", [], TARGET, {"precision": precision.value}, usage=USAGE)
        return tmp_path

    with RUNTIMES.using(LinearRuntime.name, LinearRuntime()):
        yield make


def _write_images(fp32: npt.NDArray[np.float32], labelled: bool) -> None:
    """Random pixels, each labelled with what FP32 answers, so that FP32 is always right."""
    pixels = np.random.default_rng(1).integers(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)
    inputs = to_input(pixels, config.read().data.preprocessing)
    labels = (inputs.reshape(IMAGES, -1) @ fp32).argmax(axis=1) if labelled else np.full(IMAGES, -1)
    folder = PATHS.validation
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", pixels)
    np.save(folder / "geometry.npy", np.tile(Geometry((28, 28)).to_row(), (IMAGES, 1)))
    lines = ["name,label", *(f"{index:03}.png,{label}" for index, label in enumerate(labels))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "classes.json").write_text(json.dumps([f"digit {index}" for index in range(CLASSES)] if labelled else []))
    for name in ("images.npy", "geometry.npy", "labels.csv", "classes.json"):
        manifest.seal(folder / name, "prepare_data", [])


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[[Callable[[], None]], tuple[int, str]]:
    """Run a stage's entry point in this process; its exit code and everything that it printed, on one line."""

    def go(entry: Callable[[], None]) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            entry()
        printed = capfd.readouterr()
        return int(ended.value.code or 0), " ".join((printed.out + printed.err).split())

    return go
