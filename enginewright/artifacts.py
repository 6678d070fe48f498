"""Where the pipeline puts things: the same paths that dvc.yaml lists as outs. It decides no bytes."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("artifacts")
TARGET = ROOT / "target/target.json"  # written by probe_target, read by what builds and what measures
CALIBRATOR = ROOT / "target/calibrator.json"  # the identity of the calibrator, apart: a new card keeps the scales
TRAINING = ROOT / "data/training"
CALIBRATION_IMAGES = ROOT / "data/calibration"
SENSITIVITY_IMAGES = ROOT / "data/sensitivity"
VALIDATION = ROOT / "data/validation"
REFERENCE_WEIGHTS = ROOT / "reference/weights.pt"
MODEL = ROOT / "onnx/model.onnx"
CHECK_REPORT = ROOT / "checks/report.json"
CALIBRATION_CACHE = ROOT / "calibration/calib.cache"
BIAS_CORRECTION = ROOT / "calibration/bias_correction.json"  # only with calibration.bias_correction
SENSITIVITY = ROOT / "sensitivity"  # ranking.csv
MIXED_LAYERS = ROOT / "mixed/layers.yaml"
DRIFT = ROOT / "drift"
ENGINES = ROOT / "engines"  # a folder for each precision
ACCURACY = ROOT / "accuracy"
PROFILE = ROOT / "profile"
BENCHMARK = ROOT / "benchmark"
PARETO = ROOT / "pareto/pareto.csv"
METRICS = ROOT / "metrics"

# What has a sidecar wherever it lies: without one it is half-written, however whole it looks.
# tests/pipeline/test_verified.py holds it complete.
SEALED = (
    *(f"{ROOT}/data/*/{name}" for name in ("images.npy", "labels.csv", "classes.json", "targets.npy")),
    str(REFERENCE_WEIGHTS),
    str(REFERENCE_WEIGHTS.with_name("README.txt")),  # where the weights are the user's own
    *(
        str(path)
        for path in (MODEL, CHECK_REPORT, CALIBRATION_CACHE, BIAS_CORRECTION, SENSITIVITY / "ranking.csv", MIXED_LAYERS)
    ),
    str(DRIFT / "report.json"),
    f"{ENGINES}/*/engine.*",
    *(str(path) for path in (ACCURACY / "predictions.csv", ACCURACY / "metrics.json", PROFILE / "layers.csv")),
    *(str(path) for path in (BENCHMARK / "windows.csv", BENCHMARK / "metrics.json", PARETO)),
)
