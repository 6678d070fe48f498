"""Constants, BatchNormalization and padding folded into the layers, by ONNX Runtime's basic optimizations, which give standard ONNX again.

Shape arithmetic over fixed axes, which these leave where the batch is dynamic, is folded after them (`enginewright.calibration.shapes`).

A Pad that PyTorch's exporter writes as thirteen nodes of shape arithmetic is in the way of everything behind it: TensorRT 8.6.0 refuses precision
constraints near it, runs it as an INT8 layer of its own in front of a layer in FP16, and gave engines whose answers were noise (docs/h200.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from enginewright.calibration.shapes import fold_static_shapes

# ONNX Runtime 1.32 computes Transpose -> MatMul by a stored vector as if nothing were transposed: -2 dB in FP32, without a word.
WRONG_FUSIONS = ("MatmulTransposeFusion",)


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function in fewer nodes; names of layers, inputs and outputs stay. What ONNX Runtime cannot load comes back as it is."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph  # fmt: skip
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unsupported
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "model.onnx", Path(folder) / "simplified.onnx"
        onnx.save(_without_empty_values(model), str(source))
        try:
            quant_pre_process(str(source), str(result), skip_symbolic_shape=True)
        except (Fail, InvalidGraph, Unsupported):
            return fold_static_shapes(model)
        found = onnx.load(result)
    domains = {"", *(entry.domain for entry in model.opset_import)}  # what comes back imports every domain that ONNX Runtime knows
    opset = [entry for entry in found.opset_import if entry.domain in domains]
    del found.opset_import[:]
    found.opset_import.extend(opset)
    return fold_static_shapes(found)


def _without_empty_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX Runtime folds no Pad whose fill value is there and empty, which is how PyTorch writes the default of 0."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        if node.op_type == "Pad" and len(node.input) == 3 and not node.input[2]:
            node.input.pop()
    return result
