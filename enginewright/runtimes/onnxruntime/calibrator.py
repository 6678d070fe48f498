"""The portable calibrator: one symmetric scale for each float tensor, on values that ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from enginewright.calibration.cache import CalibrationCache, Header, scale_of
from enginewright.calibration.histogram import Magnitudes
from enginewright.calibration.ranges import chosen_range
from enginewright.config import Calibration
from enginewright.errors import CalibrationMismatch
from enginewright.feeds import Array, Feeds
from enginewright.graph import stored
from enginewright.graph.activations import activations, replaces_nan
from enginewright.graph.index import Graph
from enginewright.graph.values import Values, is_boundless
from enginewright.plugins import NO_PLUGINS, Plugins
from enginewright.runtimes.onnxruntime.observe import holds_images, tensor_values
from enginewright.runtimes.onnxruntime.session import Purpose

NO_IMAGE = "there is no calibration image; set data.calibration_images to at least 1"


def calibrate(
    onnx_model: Path, feeds: Iterable[Feeds], settings: Calibration, plugins: Plugins = NO_PLUGINS
) -> CalibrationCache:
    """Run every batch once and choose one scale for each float activation of the model, in the order of its graph.

    Memory holds the activations of one batch. Equal input gives equal scales, whatever the number of threads. A tensor
    that holds the infinity of an attention mask, NaN that the model itself replaces, or no value at all, gets no scale,
    and what reads it stays in float.

    Args:
        onnx_model: FP32; every tensor keeps its name.
        feeds: input name -> float32 [N, ...], preprocessed.
        settings: algorithm, bins and percentile.
        plugins: kernels of custom operators.

    Raises:
        CalibrationMismatch: there is no batch, one holds a NaN or infinity, or an activation does.
        ModelError: ONNX Runtime cannot run the model.
        RuntimeUnavailable: it is not installed.
    """
    model = stored.read(onnx_model)
    graph = Graph(model)
    known = Values(graph)
    seen = {tensor: Magnitudes(settings.bins) for tensor in activations(model)}
    rangeless: set[str] = set()
    fed = False
    for found in tensor_values(model, list(seen), _finite(feeds), Purpose.literal, plugins=plugins):
        fed = True
        for tensor, values in _in_float32(found):
            if _has_no_range(graph, known, tensor, values):
                rangeless.add(tensor)
            else:
                seen[tensor].add(values)
    if not fed:
        raise CalibrationMismatch(NO_IMAGE)
    ranged = [tensor for tensor, magnitudes in seen.items() if tensor not in rangeless and magnitudes.counts.any()]
    return CalibrationCache(
        Header.of(settings.algorithm),
        {tensor: scale_of(tensor, chosen_range(seen[tensor], settings)) for tensor in ranged},
    )


def _in_float32(found: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """Without tensors of an operator whose type ONNX's inference does not know, and which is another."""
    for tensor, values in found.items():
        if isinstance(values, np.ndarray) and values.dtype == np.float32:
            yield tensor, values


def _has_no_range(graph: Graph, known: Values, tensor: str, values: Array) -> bool:
    """Whether these values rightly hold an infinity or NaN. Raises CalibrationMismatch if they wrongly do."""
    if is_boundless(values) and (tensor in known.infinite or tensor not in known.fed):
        return True
    if np.isfinite(values).all():
        return False
    if np.isnan(values).any() and replaces_nan(graph, tensor):
        return True
    raise CalibrationMismatch(
        f"the tensor {tensor} holds a NaN or infinity on the calibration images; look at the weights of the layer that"
        " makes it"
    )


def _finite(feeds: Iterable[Feeds]) -> Iterator[Feeds]:
    """The batches, refused if they hold a NaN or infinity."""
    for batch in filter(holds_images, feeds):
        for name, values in batch.items():
            if not np.isfinite(values).all():
                raise CalibrationMismatch(
                    f"a calibration batch of the input '{name}' holds a NaN or infinity; check data.preprocessing and"
                    " the images"
                )
        yield batch
