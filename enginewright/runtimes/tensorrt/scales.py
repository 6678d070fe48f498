"""Scales for the tensors that TensorRT's parser makes of its own, which no cache from elsewhere can name.

A Gemm becomes a constant, a matrix product, and a sum with a second, reshaped constant. TensorRT's own calibrator sees
these four tensors; without a scale for each of them the product stays in floating point ("Missing scale and zero-point
for tensor (Unnamed Layer* 27) [Matrix Multiply]_output").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewright.calibration.cache import CalibrationCache, scale_of
from enginewright.runtimes.tensorrt.bindings import Bindings

if TYPE_CHECKING:
    import tensorrt


def complete(
    bindings: Bindings, network: tensorrt.INetworkDefinition, cache: CalibrationCache, keep_fp16: Collection[str] = ()
) -> CalibrationCache:
    """Add the scales that matrix products need and that follow from their constants.

    Args:
        bindings: a library with calibrators.
        network: as the parser made it.
        cache: scales of the ONNX model's tensors, which stay as they are.
        keep_fp16: nodes that shall not run in INT8; theirs are left without.

    Returns:
        The cache with a scale for the weights and bias of every matrix product, reshaped or not (the largest magnitude
        over 127; of zeros 1 / 127), and
        for a product that only its sum with the bias has a name for: the scales of both together, which bound it.
    """
    # get_layer gives an ILayer, which takes its real class by assignment; the stubs do not know of it
    trt: Any = bindings
    layers: list[Any] = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    scales = dict(cache.scales)
    products = {
        layer.get_output(0).name
        for layer in layers
        if layer.type == trt.LayerType.MATRIX_MULTIPLY and layer.name not in keep_fp16
    }
    for product in sorted(products):
        for tensor in _read(makers[product]):
            _follow(trt, tensor, makers, scales)
    for layer in layers:
        tensors = _read(layer)
        if layer.type != trt.LayerType.ELEMENTWISE or products.isdisjoint(tensors):
            continue
        layer.__class__ = trt.IElementWiseLayer
        if layer.op == trt.ElementWiseOperation.SUM:
            result = layer.get_output(0).name
            for product, bias in (tensors, reversed(tensors)):
                _follow(trt, bias, makers, scales)
                if product in products - set(scales) and {bias, result} <= set(scales):
                    scales[product] = scales[result] + scales[bias]
    return replace(cache, scales=scales)


def _read(layer: Any) -> list[str]:
    """The tensors that a layer reads."""
    return [layer.get_input(index).name for index in range(layer.num_inputs) if layer.get_input(index)]


def _follow(trt: Any, tensor: str, makers: Mapping[str, Any], scales: dict[str, float]) -> None:
    """Give a tensor its scale if it is a constant, or a reshaped one."""
    maker = makers.get(tensor)
    if tensor in scales or maker is None:
        return
    if maker.type == trt.LayerType.CONSTANT:
        maker.__class__ = trt.IConstantLayer
        scales[tensor] = scale_of(tensor, float(np.max(np.abs(maker.weights), initial=0.0)))
    elif maker.type == trt.LayerType.SHUFFLE:
        source = maker.get_input(0).name
        _follow(trt, source, makers, scales)
        if source in scales:
            scales[tensor] = scales[source]
