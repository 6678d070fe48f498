"""Ranges of activations by entropy, min-max or percentile, on values that ONNX Runtime computes: one symmetric scale a
float tensor.

Only functions import onnxruntime here, and only `enginewright.runtimes.onnxruntime` and `enginewright.sensitivity` call
them: the target needs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from enginewright.calibration.cache import CalibrationCache, Header, scale_of
from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.histogram import Magnitudes
from enginewright.calibration.ranges import TensorRange, chosen_range
from enginewright.config import Calibration
from enginewright.errors import CalibrationMismatch, ModelError
from enginewright.graph.activations import activations, replaces_nan
from enginewright.graph.bias import watch_rounding
from enginewright.graph.index import Graph
from enginewright.graph.values import Values, is_boundless
from enginewright.runtimes.onnxruntime.session import Purpose, one_line, open_session, refusals

Array = npt.NDArray[Any]

FLOAT_INPUTS = {"tensor(float16)": np.float16, "tensor(double)": np.float64}  # what float32 images are cast to
NO_IMAGE = "there is no calibration image; set data.calibration_images to at least 1"


def calibrate(onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration) -> CalibrationCache:
    """Run every batch once and choose one scale for each float activation of the model, in the order of its graph.

    Memory holds the activations of one batch. Equal input gives equal scales, whatever the number of threads. A tensor
    that holds the infinity of an attention mask, NaN that the model itself replaces, or no value at all, gets no scale,
    and what reads it stays in float.

    Args:
        onnx_model: FP32; every tensor keeps its name.
        batches: input name -> float32 [N, ...], preprocessed.
        settings: algorithm, bins and percentile.

    Raises:
        CalibrationMismatch: there is no batch, one holds a NaN or infinity, or an activation does.
        ModelError: ONNX Runtime cannot run the model.
    """
    model = onnx.load(onnx_model)
    graph = Graph(model)
    known = Values(graph)
    seen = {tensor: Magnitudes(settings.bins) for tensor in activations(model)}
    boundless: set[str] = set()
    fed = False
    for found in _run(model, list(seen), _finite(batches), optimized=False):
        fed = True
        for tensor, values in found.items():
            if (
                not isinstance(values, np.ndarray) or values.dtype != np.float32
            ):  # of an operator whose type ONNX's inference does not know
                continue
            masks = is_boundless(values) and (tensor in known.infinite or tensor not in known.fed)
            if masks or (np.isnan(values).any() and replaces_nan(graph, tensor)):
                boundless.add(tensor)
            elif not np.isfinite(values).all():
                raise CalibrationMismatch(
                    f"the tensor {tensor} holds a NaN or infinity on the calibration images; look at the weights of the"
                    " layer that makes it"
                )
            else:
                seen[tensor].add(values)
    if not fed:
        raise CalibrationMismatch(NO_IMAGE)
    ranged = [tensor for tensor, magnitudes in seen.items() if tensor not in boundless and magnitudes.counts.any()]
    return CalibrationCache(
        Header.of(settings.algorithm),
        {tensor: scale_of(tensor, chosen_range(seen[tensor], settings)) for tensor in ranged},
    )


def observe(
    onnx_model: Path, batches: Iterable[Mapping[str, Array]], cache: CalibrationCache
) -> dict[str, TensorRange]:
    """Run every batch once more and say what the scales of a cache, whoever made it, do to the values: tensor ->
    statistics.
    """
    model = onnx.load(onnx_model)
    ranges = {
        tensor: TensorRange(127 * cache.scales[tensor]) for tensor in activations(model) if tensor in cache.scales
    }
    for found in tensor_values(model, ranges, batches):
        for tensor, values in found.items():
            ranges[tensor].add(values)
    return ranges


def tensor_values(
    model: onnx.ModelProto, tensors: Collection[str], batches: Iterable[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """What a model's tensors hold, inputs among them, batch by batch."""
    return _run(model, tensors, batches, optimized=True)


def _run(
    model: onnx.ModelProto, tensors: Collection[str], batches: Iterable[Mapping[str, Array]], optimized: bool
) -> Iterator[dict[str, Array]]:
    """As `tensor_values`; calibration takes the graph as it is, so that no fusion rounds otherwise. Raises
    ModelError.
    """
    inputs = {value.name for value in model.graph.input}
    results = [tensor for tensor in tensors if tensor not in inputs]
    known = {output.name for output in model.graph.output}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(tensor) for tensor in results if tensor not in known
    )
    try:
        session = open_session(exposed.SerializeToString(), Purpose.reference if optimized else Purpose.literal)
    except refusals() as fault:
        raise ModelError(
            f"ONNX Runtime cannot run the model: {one_line(fault)}; see the report of check_onnx"
        ) from None
    types = {value.name: FLOAT_INPUTS[value.type] for value in session.get_inputs() if value.type in FLOAT_INPUTS}
    for batch in filter(_holds_images, batches):
        fed = {name: values.astype(types.get(name, values.dtype), copy=False) for name, values in batch.items()}
        try:
            computed = session.run(results, fed)
        except refusals(ValueError) as fault:  # an input is missing
            raise ModelError(
                f"ONNX Runtime cannot run the model on a calibration batch: {one_line(fault)}; see"
                " the report of check_onnx"
            ) from None
        yield {
            **{tensor: values for tensor, values in batch.items() if tensor in tensors},
            **dict(zip(results, computed)),
        }


def bias_correction(onnx_model: Path, batches: Iterable[Mapping[str, Array]]) -> BiasCorrection:
    """What rounding its weights to INT8 adds to a layer's output on average, one channel at a time
    (`enginewright.graph.bias`).

    The mean is over every row and position that the layer gives, however many of them one image has.

    Args:
        onnx_model: FP32; layers without a name of their own, and those whose weights are computed in the graph, are
            left out.
        batches: input name -> float32 [N, ...], preprocessed.

    Raises:
        CalibrationMismatch: there is no batch.
    """
    model, watched = watch_rounding(onnx.load(onnx_model))
    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    for found in tensor_values(model, [tensor for pair in watched.values() for tensor in pair], batches):
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


def _finite(batches: Iterable[Mapping[str, Array]]) -> Iterator[Mapping[str, Array]]:
    """The batches, refused if they hold a NaN or infinity."""
    for batch in filter(_holds_images, batches):
        for name, values in batch.items():
            if not np.isfinite(values).all():
                raise CalibrationMismatch(
                    f"a calibration batch of the input '{name}' holds a NaN or infinity; check data.preprocessing and"
                    " the images"
                )
        yield batch


def _holds_images(batch: Mapping[str, Array]) -> bool:
    return any(len(values) for values in batch.values() if values.shape)
