"""What calibrate finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from enginewright.results.record import Record


@dataclass(frozen=True)
class RangesResult(Record):
    """How the activations fill their INT8 ranges; without ONNX Runtime nobody saw, and the last two are None."""

    tensors: int
    outlier_tensors: int
    saturation_max: Optional[float] = None
    most_saturated_tensor: Optional[str] = None


@dataclass(frozen=True)
class CalibrationResult(Record):
    """How much was calibrated, how long it took, and what the images look like through the scales."""

    images: int
    seconds: float
    corrected_layers: int
    ranges: RangesResult
