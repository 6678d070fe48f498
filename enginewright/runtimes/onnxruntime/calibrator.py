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

from enginewright.calibration.bias import CORRECTED
from enginewright.calibration.cache import CalibrationCache, scale_of
from enginewright.calibration.histogram import Magnitudes
from enginewright.calibration.ranges import TensorRange
from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.errors import CalibrationMismatch, ModelError
from enginewright.graph.fold import fold_batch_normalization
from enginewright.graph.index import Graph
from enginewright.graph.placements import needed_tensors
from enginewright.graph.qdq import quantizable, rounding_error
from enginewright.graph.values import Values, is_boundless
from enginewright.runtimes.onnxruntime.simplify import WRONG_FUSIONS

Array = npt.NDArray[Any]

FLOAT_INPUTS = {"tensor(float16)": np.float16, "tensor(double)": np.float64}  # what float32 images are cast to
NO_IMAGE = "there is no calibration image; set data.calibration_images to at least 1"
QUANTIZED_BINS = 128  # levels of |x| in INT8
MOST_CLIPPED = 0.001
AXES_ARE_AN_INPUT = 18  # the opset from which ReduceMean takes them so
# thresholds that the entropy search tries over the whole histogram: finer ones change no scale by more than 0.2 %
CANDIDATES = 512


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
            if masks or (np.isnan(values).any() and _replaces_nan(graph, tensor)):
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
        settings.algorithm, {tensor: scale_of(tensor, _range(seen[tensor], settings)) for tensor in ranged}
    )


def _replaces_nan(graph: Graph, tensor: str) -> bool:
    """Whether the NaN of a tensor end in a Where behind IsNaN: attention whose mask hides a whole row is written so."""
    readers = graph.consumers(tensor)
    found = {node.output[0] for node in readers if node.op_type == "IsNaN"}
    return (
        bool(found)
        and not graph.read_elsewhere(tensor)
        and all(
            node.op_type == "IsNaN" or (node.op_type == "Where" and node.input[0] in found and node.input[1] != tensor)
            for node in readers
        )
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
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        NotImplemented as Unsupported,
        RuntimeException,
    )

    inputs = {value.name for value in model.graph.input}
    results = [tensor for tensor in tensors if tensor not in inputs]
    known = {output.name for output in model.graph.output}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(tensor) for tensor in results if tensor not in known
    )
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            exposed.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(WRONG_FUSIONS),
        )
    except (Fail, InvalidArgument, InvalidGraph, RuntimeException, Unsupported) as fault:
        raise ModelError(
            f"ONNX Runtime cannot run the model: {' '.join(str(fault).split())}; see the report of check_onnx"
        ) from None
    types = {value.name: FLOAT_INPUTS[value.type] for value in session.get_inputs() if value.type in FLOAT_INPUTS}
    for batch in filter(_holds_images, batches):
        fed = {name: values.astype(types.get(name, values.dtype), copy=False) for name, values in batch.items()}
        try:
            computed = session.run(results, fed)
        except (Fail, InvalidArgument, RuntimeException, ValueError) as fault:  # ValueError: an input is missing
            raise ModelError(
                f"ONNX Runtime cannot run the model on a calibration batch: {' '.join(str(fault).split())}; see"
                " the report of check_onnx"
            ) from None
        yield {
            **{tensor: values for tensor, values in batch.items() if tensor in tensors},
            **dict(zip(results, computed)),
        }


def bias_shifts(onnx_model: Path, batches: Iterable[Mapping[str, Array]]) -> dict[str, npt.NDArray[np.float32]]:
    """What rounding its weights to INT8 adds to a layer's output on average, one channel at a time
    (`calibration.bias`).

    Beside each layer a second one runs that has the rounding errors for weights and no bias: its mean is the shift,
    borders and strides included. The mean is over every row and position that the layer gives, however many of them one
    image has.

    Args:
        onnx_model: FP32; layers without a name of their own, and those whose weights are computed in the graph, are
            left out.
        batches: input name -> float32 [N, ...], preprocessed.

    Raises:
        CalibrationMismatch: there is no batch.
    """
    model = fold_batch_normalization(onnx.load(onnx_model))
    graph = Graph(model)
    names = Counter(node.name for node in graph.nodes)
    layers = [node for node in quantizable(model) if node.op_type in CORRECTED and node.name and names[node.name] == 1]
    watched = {
        node.name: _watch_errors(model, graph, node)
        for node in layers
        if all(graph.constant(name) is not None for name in node.input[1:] if name)
    }
    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    for found in tensor_values(model, [tensor for pair in watched.values() for tensor in pair], batches):
        for name, (mean, shape) in watched.items():
            rows = int(np.prod(found[shape])) // max(int(found[shape][1]), 1)  # of a Conv: images times positions
            if rows:
                sums[name] = sums.get(name, 0.0) + rows * found[mean].reshape(-1, found[shape][1]).mean(
                    axis=0, dtype=np.float64
                )
                counts[name] += rows
    if watched and not sums:
        raise CalibrationMismatch(NO_IMAGE)
    shifts = {name: (total / counts[name]).astype(np.float32) for name, total in sums.items()}
    return {
        name: shift for name, shift in shifts.items() if np.isfinite(shift).all()
    }  # else the layer reads a mask, and stays in float


def _watch_errors(model: onnx.ModelProto, graph: Graph, layer: onnx.NodeProto) -> tuple[str, str]:
    """Add what computes a layer's output with the rounding errors for weights: the names of its mean, [rows or 1,
    channels, ...], and of its shape.
    """
    weight = graph.constant(layer.input[1])
    assert weight is not None  # chosen by the caller
    error = graph.add_constant(
        graph.unique(f"{layer.input[1]}_error"), rounding_error(layer, weight).astype(weight.dtype)
    )
    beside, mean, shape = (graph.unique(f"{layer.output[0]}_{what}") for what in ("error", "error_mean", "error_shape"))
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in layer.attribute if each.name != "beta"}
    model.graph.node.append(onnx.helper.make_node(layer.op_type, [layer.input[0], error], [beside], **attributes))
    model.graph.node.append(onnx.helper.make_node("Shape", [beside], [shape]))
    if layer.op_type != "Gemm":
        average = onnx.helper.make_node("GlobalAveragePool", [beside], [mean])
    elif next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) < AXES_ARE_AN_INPUT:
        average = onnx.helper.make_node("ReduceMean", [beside], [mean], axes=[0])
    else:
        average = onnx.helper.make_node(
            "ReduceMean", [beside, graph.add_constant(graph.unique(f"{mean}_axes"), np.array([0], np.int64))], [mean]
        )
    model.graph.node.append(average)
    return mean, shape


def activations(model: onnx.ModelProto) -> list[str]:
    """The float tensors that want a scale, in the order of the graph: inputs first, then what each node gives.

    They are all that depend on an input; and of what depends on its shape alone, such as a learned query expanded over
    the batch, or on constants, those that a quantized layer reads.
    """
    graph = Graph(model)
    fed = Values(graph).fed
    ordered = [value.name for value in model.graph.input if value.name in fed]
    wanted = fed | needed_tensors(model)
    ordered += [tensor for node in graph.nodes for tensor in node.output if tensor in wanted]
    return [
        tensor
        for tensor in ordered
        if graph.element_type(tensor) in (onnx.TensorProto.FLOAT, onnx.TensorProto.UNDEFINED)
    ]


def entropy_range(counts: npt.NDArray[np.int64], edges: npt.NDArray[np.floating[Any]]) -> float:
    """The amax of least KL divergence between a tensor's magnitudes and their 128 quantized levels.

    Migacz, "8-bit Inference with TensorRT", GTC 2017, in the form of NVIDIA's pytorch-quantization
    (`calib/histogram.py`): on |x|, and without the bin of zeros, which after Relu would outweigh all others. ONNX
    Runtime's own search works on x, keeps the zeros and cuts fractions off; efficientnet_lite0 falls to an SQNR of 1 dB
    with it, against 13 dB (docs/decisions/0008-entropy.md). Beside the slides, at most MOST_CLIPPED of the values lie
    beyond the threshold: where one value fills a bin (a normalized black background), all the rest clipped onto it
    costs no divergence, and digits falls to 29 % top-1.

    Args:
        counts: histogram of |x|, [bins].
        edges: its edges from 0 to the largest |x|, [bins + 1].
    """
    from scipy.stats import entropy

    histogram = counts.astype(np.float64)
    histogram[0] = histogram[1]
    largest = int(np.flatnonzero(histogram)[-1]) + 1 if histogram.any() else 0
    best, width = np.inf, largest
    first = max(QUANTIZED_BINS, int(np.searchsorted(np.cumsum(counts), (1 - MOST_CLIPPED) * counts.sum())) + 1)
    for candidate in range(first, largest + 1, max(1, counts.size // CANDIDATES)):
        reference = histogram[:candidate].copy()
        reference[-1] += histogram[candidate:].sum()
        divergence = entropy(reference, _quantized(histogram[:candidate]))
        if divergence < best:
            best, width = float(divergence), candidate
    return float(edges[width])


def _quantized(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Counts merged to 128 levels, then spread evenly over the occupied bins of each level."""
    level = np.arange(counts.size) * QUANTIZED_BINS // counts.size
    occupied = counts > 0
    sums = np.bincount(level, weights=counts, minlength=QUANTIZED_BINS)
    bins = np.bincount(level, weights=occupied, minlength=QUANTIZED_BINS)
    means = np.divide(sums, bins, out=np.zeros(QUANTIZED_BINS), where=bins > 0)
    return np.where(occupied, means[level], 0.0)


def _range(seen: Magnitudes, settings: Calibration) -> float:
    """The amax that an algorithm chooses."""
    if settings.algorithm is CalibrationAlgorithm.entropy:
        return entropy_range(seen.counts, seen.edges())
    return seen.amax if settings.algorithm is CalibrationAlgorithm.minmax else seen.percentile(settings.percentile)


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
