"""What the GPU machine needs and cannot make: models, images and portable calibration caches, into a folder of under 50
MiB.

Run where PyTorch and ONNX Runtime are: python -m benchmarks.gpu.make_models .gpu PROJECT

PROJECT is a checkout in which `experiment=efficientnet_lite0 calibration.bias_correction=true` ran up to search_mixed:
its ONNX, scales, bias correction and layers.yaml are what is measured.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gpu import resnet50
from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache
from enginewright.config import Calibration, CalibrationAlgorithm, ChannelOrder, Data, Preprocessing
from enginewright.data.preprocessing import to_input
from enginewright.data.recipes import IMAGES, recipe_of
from enginewright.data.sources import open_source
from enginewright.layout import Layout
from enginewright.runtimes import runtime_named
from enginewright.runtimes.onnxruntime.session import open_session

CALIBRATION_IMAGES, VALIDATION_IMAGES = 64, 192
EFFICIENTNET = Preprocessing(
    resize=224, size=[224, 224], channels=ChannelOrder.rgb, scale=1.0, mean=[127.0] * 3, std=[128.0] * 3
)
IMAGENET = Preprocessing(
    resize=224, size=[224, 224], channels=ChannelOrder.rgb, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
)


def photographs(held_out: bool, count: int) -> npt.NDArray[np.uint8]:
    """[count, 224, 224, 3] crops of real photographs; no scene is in both sets."""
    samples = [sample for sample in open_source(Data(source="photographs")).samples() if sample.held_out is held_out]
    chosen = [samples[index] for index in np.linspace(0, len(samples) - 1, count).astype(int)]
    recipe = recipe_of(IMAGENET)
    return np.stack([recipe.store(sample)[0][IMAGES] for sample in chosen])


def batches(
    images: npt.NDArray[np.uint8], preprocessing: Preprocessing, name: str, size: int = 16
) -> Iterator[dict[str, Any]]:
    """Model inputs, `size` images at a time."""
    for start in range(0, len(images), size):
        yield {name: to_input(images[start : start + size], preprocessing)}


def calibrate(model: Path, images: npt.NDArray[np.uint8], preprocessing: Preprocessing, name: str) -> CalibrationCache:
    """The portable calibrator, by entropy."""
    settings = Calibration(algorithm=CalibrationAlgorithm.entropy, batch_size=16)
    return runtime_named("onnxruntime").calibrate(model, batches(images, preprocessing, name), settings)


def fp32_answers(model: Path, images: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Logits by ONNX Runtime."""
    session = open_session(str(model))
    return np.concatenate([session.run(None, feeds)[0] for feeds in batches(images, preprocessing, "input")])


def efficientnet(out: Path, project: Path, validation: npt.NDArray[np.uint8]) -> None:
    """What the pipeline made of the ImageNet weights."""
    made = {
        Layout().model: "onnx",
        Layout().calibration_cache: "cache",
        Layout().bias_correction: "bias_correction.json",
        Layout().mixed_layers: "layers.yaml",
    }
    for source, name in made.items():
        manifest.verify(project / source)
        shutil.copy(project / source, out / f"efficientnet_lite0.{name}")
    np.savez_compressed(
        out / "efficientnet_lite0_fp32.npz", logits=fp32_answers(project / Layout().model, validation, EFFICIENTNET)
    )


def resnet(out: Path, calibration: npt.NDArray[np.uint8], validation: npt.NDArray[np.uint8]) -> None:
    """Fit, write the recipe, calibrate on the very ONNX that the GPU machine will write from it, and keep FP32's
    answers.
    """
    fitted = resnet50.fit(to_input(calibration[:16], IMAGENET))
    np.savez_compressed(out / "resnet50.npz", **fitted)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.onnx"
        resnet50.write_onnx(path, fitted, 224)
        calibrate(path, calibration, IMAGENET, "input").write(out / "resnet50.cache")
        np.savez_compressed(out / "resnet50_fp32.npz", logits=fp32_answers(path, validation, IMAGENET))


def main(out: Path, project: Path) -> None:
    """Make everything; says how long each part took."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    calibration, validation = photographs(False, CALIBRATION_IMAGES), photographs(True, VALIDATION_IMAGES)
    np.savez_compressed(out / "images.npz", calibration=calibration, validation=validation)
    efficientnet(out, project, validation)
    resnet(out, calibration, validation)
    print(
        f"{sum(file.stat().st_size for file in out.iterdir()) / 2**20:.1f} MiB in {out},"
        f" {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
