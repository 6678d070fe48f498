"""Bias correction measured: what INT8 weights add to each layer's output on average, by ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from enginewright.calibration.correction import BiasCorrection
from enginewright.errors import CalibrationMismatch
from enginewright.feeds import Feeds
from enginewright.graph import stored
from enginewright.graph.bias import watch_rounding
from enginewright.plugins import beside
from enginewright.runtimes.onnxruntime.calibrator import NO_IMAGE
from enginewright.runtimes.onnxruntime.observe import tensor_values


def measure_bias_correction(onnx_model: Path, feeds: Iterable[Feeds]) -> BiasCorrection:
    """What rounding its weights to INT8 adds to a layer's output on average, one channel at a time
    (`enginewright.graph.bias`).

    The mean is over every row and position that the layer gives, however many of them one image has.

    Args:
        onnx_model: FP32; layers without a name of their own, and those whose weights are computed in the graph, are
            left out.
        feeds: input name -> float32 [N, ...], preprocessed.

    Raises:
        CalibrationMismatch: there is no batch.
        ModelError: ONNX Runtime cannot run the model.
        RuntimeUnavailable: it is not installed.
    """
    model, watched = watch_rounding(stored.read(onnx_model))
    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    for found in tensor_values(
        model, [tensor for pair in watched.values() for tensor in pair], feeds, plugins=beside(onnx_model)
    ):
        for name, (mean, shape) in watched.items():
            rows = int(np.prod(found[shape])) // max(int(found[shape][1]), 1)  # of a Conv: images times positions
            if rows:
                of_batch = found[mean].reshape(-1, found[shape][1]).mean(axis=0, dtype=np.float64)
                sums[name] = sums.get(name, 0.0) + rows * of_batch
                counts[name] += rows
    if watched and not sums:
        raise CalibrationMismatch(NO_IMAGE)
    means = {name: (total / counts[name]).astype(np.float32) for name, total in sums.items()}
    # What is not finite reads a mask, and stays in float.
    return BiasCorrection({name: values for name, values in means.items() if np.isfinite(values).all()})
