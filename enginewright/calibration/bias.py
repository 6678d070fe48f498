"""Bias correction: what rounding its weights to INT8 adds to a layer's output on average, taken off its bias.

Rounding errors of weights do not cancel out behind a Relu: E[(W_int8 - W) x] = (W_int8 - W) E[x] moves every value of a
channel the same way, most so in a depthwise convolution, which sums nine products. Source: M. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, with E[x] measured on the
calibration images in place of the paper's estimate from BatchNormalization. Here x are the values of the float model,
so that a layer's shift depends neither on scales nor on which other layers run in INT8.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from enginewright.errors import CalibrationMismatch, nearest
from enginewright.layout import Layout

if TYPE_CHECKING:
    from onnx import ModelProto

FILE = Layout().bias_correction.name  # beside calib.cache, wherever that lies
CORRECTED = ("Conv", "ConvTranspose", "Gemm")  # a MatMul has no bias
REMEDY = "run `dvc repro calibrate`"

Shifts = Mapping[str, npt.NDArray[np.float32]]  # name of a layer -> mean shift of each output channel, [channels]


def corrected(model: ModelProto, shifts: Shifts, exclude: Collection[str] = ()) -> ModelProto:
    """Return a copy of a float model, BatchNormalization folded where it can be, whose biases are lowered by the
    shifts.

    Args:
        model: FP32.
        shifts: of `algorithms.bias_shifts`.
        exclude: names of nodes that do not run in INT8, whose biases stay.

    Raises:
        CalibrationMismatch: a shift is of a layer that the model does not have, or has with another number of channels.
    """
    # Who reads calib.cache alone, such as the command line, needs no ONNX.
    from enginewright.graph.fold import bias_of, fold_batch_normalization, output_channels, set_bias
    from enginewright.graph.index import Graph

    result = fold_batch_normalization(model)
    if not shifts:
        return result
    graph = Graph(result)
    stored = [
        node
        for node in graph.nodes
        if node.op_type in CORRECTED and all(graph.constant(name) is not None for name in node.input[1:] if name)
    ]
    layers = {node.name: node for node in stored}
    for name, shift in shifts.items():
        if name not in layers:
            raise CalibrationMismatch(
                f"the bias correction is of a layer '{name}' that the model does not have{nearest(name, layers)};"
                f" {REMEDY}"
            )
        weight, bias = graph.constant(layers[name].input[1]), bias_of(graph, layers[name])
        assert weight is not None  # stored, as all of these
        if (channels := output_channels(layers[name], weight.shape)) != shift.size:
            raise CalibrationMismatch(
                f"the bias correction has {shift.size} channels for '{name}', which has {channels}; {REMEDY}"
            )
        if name not in exclude:
            set_bias(graph, layers[name], ((0.0 if bias is None else bias) - shift).astype(weight.dtype))
    graph.drop_unused_initializers()
    return result


def to_text(shifts: Shifts) -> str:
    """The file's content; equal shifts give equal bytes, and every float32 comes back as it was."""
    return (
        json.dumps(
            {name: [float(f"{value:.9g}") for value in shift.tolist()] for name, shift in shifts.items()}, indent=0
        )
        + "\n"
    )


def read(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read what `to_text` wrote; nothing where there is no file.

    Raises:
        CalibrationMismatch: it is no JSON object of finite numbers.
    """
    try:
        shifts = {name: np.asarray(values, np.float32) for name, values in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as fault:
        raise CalibrationMismatch(f"{path} is no bias correction ({' '.join(str(fault).split())}); {REMEDY}") from None
    for name, shift in shifts.items():
        if shift.ndim != 1 or not np.isfinite(shift).all():
            raise CalibrationMismatch(f"{path} has no list of finite numbers for '{name}'; {REMEDY}")
    return shifts
