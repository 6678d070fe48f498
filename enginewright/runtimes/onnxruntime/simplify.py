"""Constants, BatchNormalization and padding folded into the layers, by ONNX Runtime's basic optimizations, which give
standard ONNX again.

Shape arithmetic over fixed axes, which these leave where the batch is dynamic, is folded after them
(`enginewright.graph.shapes`).

A Pad that PyTorch's exporter writes as thirteen nodes of shape arithmetic is in the way of everything behind it:
TensorRT 8.6.0 refuses precision constraints near it, runs it as an INT8 layer of its own in front of a layer in FP16,
and gave engines whose answers were noise (docs/h200.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx.shape_inference import InferenceError

from enginewright.graph.shapes import fold_static_shapes

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function in fewer nodes; names of layers, inputs and outputs stay. What ONNX Runtime cannot load
    comes back as it is.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        NotImplemented as Unsupported,
        RuntimeException,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "model.onnx", Path(folder) / "simplified.onnx"
        onnx.save(_without_empty_values(model), str(source))
        try:
            quant_pre_process(str(source), str(result), skip_symbolic_shape=True)
        except (Fail, InvalidArgument, InvalidGraph, RuntimeException, Unsupported, InferenceError):
            return fold_static_shapes(model)
        found = onnx.load(result)
    if _opset(found) != _opset(model):  # before 11 it converts, and what is refused later is not the opset of this file
        return fold_static_shapes(model)
    _name_as_before(model, found)
    domains = {
        "",
        *(entry.domain for entry in model.opset_import),
    }  # what comes back imports every domain that ONNX Runtime knows
    opset = [entry for entry in found.opset_import if entry.domain in domains]
    del found.opset_import[:]
    found.opset_import.extend(opset)
    return fold_static_shapes(found)


def _opset(model: onnx.ModelProto) -> int:
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _name_as_before(model: onnx.ModelProto, result: onnx.ModelProto) -> None:
    """Give a layer that took up what stands behind it, and another name with it, its own name back: by that it is left
    in float, or has its bias corrected.
    """
    before = {output: node for node in model.graph.node if node.op_type != "Constant" for output in node.output}
    taken = {node.name for node in result.graph.node}
    known = {node.name for node in model.graph.node}
    for node in result.graph.node:
        layer = before.get(node.output[0]) if node.op_type in LAYERS and node.name not in known else None
        while layer is not None and layer.op_type not in LAYERS:
            layer = next((before[tensor] for tensor in layer.input if tensor in before), None)
        if layer is not None and layer.name and layer.name not in taken:
            node.name = layer.name
            taken.add(node.name)


def _without_empty_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX Runtime folds no Pad whose fill value is there and empty, which is how PyTorch writes the default of 0."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        if node.op_type == "Pad" and len(node.input) == 3 and not node.input[2]:
            node.input.pop()
    return result
