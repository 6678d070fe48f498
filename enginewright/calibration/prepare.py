"""A float model and its calib.cache made ready for INT8 on ONNX Runtime: simplified together, so that they still speak of the same layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from enginewright.calibration.bias import CORRECTED, Shifts, corrected
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.fold import bias_of
from enginewright.calibration.graph import Graph
from enginewright.calibration.simplify import simplified


def prepared(model: ModelProto, cache: CalibrationCache) -> tuple[ModelProto, CalibrationCache]:
    """`simplified(model)`, and the cache for it.

    Simplifying multiplies a constant factor behind a layer into its weights, and the layer's bias correction is to be taken times it, too: it is what
    simplifying makes of the correction, as the difference that it makes to the biases.

    Raises:
        CalibrationMismatch: the bias correction is of another model.
    """
    if not cache.shifts:
        return simplified(model), cache
    exact, lowered = (_biases(simplified(corrected(model, shifts)), cache.shifts) for shifts in ({}, cache.shifts))
    shifts = {name: _by_channel(exact.get(name, np.zeros(1)) - bias) for name, bias in lowered.items()}
    return simplified(model), replace(cache, shifts=shifts)


def _biases(model: ModelProto, layers: Shifts) -> dict[str, npt.NDArray[np.float64]]:
    graph = Graph(model)
    named = [node for node in graph.nodes if node.op_type in CORRECTED and node.name in layers]
    found = {node.name: bias_of(graph, node) for node in named}
    return {name: bias for name, bias in found.items() if bias is not None}


def _by_channel(shift: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """[channels], also where a Gemm has a bias for each row, from all of which the same was taken."""
    return (shift if shift.ndim == 1 else shift.mean(axis=0)).astype(np.float32)
