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
