"""What the tensors of a float model hold, run by ONNX Runtime, and what a cache's scales do to it.

A module, not a part of the runtime: whoever calibrates and whatever runs the engines, ONNX Runtime observes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.ranges import TensorRange
from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds
from enginewright.graph import stored
from enginewright.graph.activations import activations
from enginewright.plugins import NO_PLUGINS, Plugins, beside
from enginewright.runtimes.onnxruntime.session import Purpose, installed_version, one_line, open_model, refusals

FLOAT_INPUTS = {"tensor(float16)": np.float16, "tensor(double)": np.float64}  # what float32 images are cast to


def observe(onnx_model: Path, feeds: Iterable[Feeds], cache: CalibrationCache) -> dict[str, TensorRange]:
    """Run every batch and say what the scales of a cache, whoever made it, do to the values: tensor -> statistics.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
        RuntimeUnavailable: it is not installed.
    """
    model = stored.read(onnx_model)
    ranges = {
        tensor: TensorRange(127 * cache.scales[tensor]) for tensor in activations(model) if tensor in cache.scales
    }
    for found in tensor_values(model, ranges, feeds, plugins=beside(onnx_model)):
        for tensor, values in found.items():
            ranges[tensor].add(values)
    return ranges


def tensor_values(
    model: onnx.ModelProto,
    tensors: Collection[str],
    feeds: Iterable[Feeds],
    purpose: Purpose = Purpose.reference,
    *,
    plugins: Plugins = NO_PLUGINS,
) -> Iterator[dict[str, Array]]:
    """What a model's tensors hold, inputs among them, batch by batch; a batch without an image is left out.

    Args:
        model: FP32.
        tensors: names.
        feeds: input name -> float32 [N, ...], preprocessed.
        purpose: `literal` where no fusion may round otherwise.
        plugins: kernels of custom operators.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
        RuntimeUnavailable: it is not installed.
    """
    installed_version()
    inputs = {value.name for value in model.graph.input}
    results = [tensor for tensor in tensors if tensor not in inputs]
    try:
        session = open_model(_exposed(model, results), purpose, plugins=plugins)
    except refusals() as fault:
        raise ModelError(
            f"ONNX Runtime cannot run the model: {one_line(fault)}; see the report of check_onnx"
        ) from None
    types = {value.name: FLOAT_INPUTS[value.type] for value in session.get_inputs() if value.type in FLOAT_INPUTS}
    for batch in filter(holds_images, feeds):
        fed = {name: values.astype(types.get(name, values.dtype), copy=False) for name, values in batch.items()}
        try:
            computed = session.run(results, fed)
        except refusals(ValueError) as fault:  # ValueError: an input is missing
            raise ModelError(
                f"ONNX Runtime cannot run the model on a calibration batch: {one_line(fault)}; see"
                " the report of check_onnx"
            ) from None
        yield {
            **{tensor: values for tensor, values in batch.items() if tensor in tensors},
            **dict(zip(results, computed)),
        }


def holds_images(feeds: Feeds) -> bool:
    """Whether a batch has a row."""
    return any(len(values) for values in feeds.values() if values.shape)


def _exposed(model: onnx.ModelProto, tensors: Collection[str]) -> onnx.ModelProto:
    """A copy that gives these tensors as outputs too."""
    known = {output.name for output in model.graph.output}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(tensor) for tensor in tensors if tensor not in known
    )
    return result
