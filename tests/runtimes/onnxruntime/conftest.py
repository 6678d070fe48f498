"""The tiny network and its scales, for every test in this folder."""

from pathlib import Path

import onnx
import pytest

from support.calibrated import cache, network, network_file
from support.networks import residual_network

__all__ = ["cache", "model", "network", "network_file"]


@pytest.fixture
def model(here: Path) -> Path:
    """The tiny residual network as a file in an empty folder."""
    path = here / "model.onnx"
    onnx.save(residual_network(), path)
    return path
