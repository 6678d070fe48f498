"""Constants, BatchNormalization and padding folded into the layers, by ONNX Runtime's basic optimizations, which give
standard ONNX again.

Shape arithmetic over fixed axes, which these leave where the batch is dynamic, is folded after them
(`enginewright.graph.shapes`).

A Pad that PyTorch's exporter writes as thirteen nodes of shape arithmetic is in the way of everything behind it:
TensorRT 8.6.0 refuses precision constraints near it, runs it as an INT8 layer of its own in front of a layer in FP16,
and gave engines whose answers were noise (docs/h200.md).
"""

from __future__ import annotations

from typing import Optional

import onnx
from onnx.shape_inference import InferenceError

from enginewright.graph import stored
from enginewright.graph.custom import custom_nodes, put_together, taken_apart
from enginewright.graph.shapes import fold_static_shapes
from enginewright.runtimes.onnxruntime.session import refusals, write_optimized

CONVERTED_BELOW = 11  # ONNX Runtime's quantizer converts such a model, and what is refused later is not of this file
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function in fewer nodes; names of layers, inputs and outputs stay. What ONNX Runtime cannot load
    comes back as it is. Custom nodes stay as they are: the rest is simplified without them, whether or not ONNX Runtime
    has kernels for them.
    """
    if custom_nodes(model):
        parts = taken_apart(model)
        return fold_static_shapes(model if parts is None else put_together(parts, _simplified(parts.standard), model))
    return fold_static_shapes(_simplified(model))


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    if _opset(model) < CONVERTED_BELOW:
        return model
    found = _optimized(_without_empty_values(model))
    if found is None:
        return model
    _name_as_before(model, found)
    domains = {
        "",
        *(entry.domain for entry in model.opset_import),
    }  # what comes back imports every domain that ONNX Runtime knows
    opset = [entry for entry in found.opset_import if entry.domain in domains]
    del found.opset_import[:]
    found.opset_import.extend(opset)
    return found


def _optimized(model: onnx.ModelProto) -> Optional[onnx.ModelProto]:
    """What quant_pre_process of ONNX Runtime gives: its basic optimizations, ONNX's inference, and its mark. Large
    weights stay in files, where it would hold each several times. None where ONNX's inference refuses the model.
    """
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    with stored.linked(model) as file:
        result = file.path.with_name("simplified.onnx")
        try:
            write_optimized(file.path, result)
            found = file.read(result)
        except refusals():
            found = model
    try:
        inferred = onnx.shape_inference.infer_shapes(found)
    except InferenceError:
        return None
    add_pre_process_metadata(inferred)
    return inferred


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
