"""A tiny network in a file, and scales for it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import onnx
import pytest
from onnx import ModelProto

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from support.networks import images, residual_network


@pytest.fixture
def network() -> ModelProto:
    return residual_network()


@pytest.fixture
def network_file(tmp_path: Path, network: ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(network, path)
    return path


@pytest.fixture
def cache(network_file: Path) -> CalibrationCache:
    return calibrate(network_file, [{"input": images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))


def plain_recipe(cache: Optional[CalibrationCache]) -> Optional[QuantizationRecipe]:
    """INT8 of these scales without a bias correction; None without scales."""
    return None if cache is None else QuantizationRecipe(cache)
