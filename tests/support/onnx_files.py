"""Small ONNX models as other programs write them, from ONNX's text form, and ONNX Runtime's answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.parser
from onnx import ModelProto, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


def parsed(graph: str, weights: Mapping[str, Array] = {}, opset: int = 17, ir_version: int = 8) -> ModelProto:
    """A model of ONNX's text form: "g (float[1, 4] x) => (float[1, 2] y) { y = MatMul(x, w) }"."""
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}]> {graph}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def answers(model: ModelProto, **feeds: Array) -> list[Array]:
    """What ONNX Runtime answers, node by node as it stands."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(answer) for answer in session.run(None, feeds)]


def rows_alone(model: ModelProto, name: str, fed: Array, place: int = 0) -> list[Array]:
    """What a model of batch 1 answers to each row, put together along the first axis."""
    found = [answers(model, **{name: one}) for one in np.split(fed, fed.shape[place], place)]
    return [np.concatenate(each, 0) for each in zip(*found)]


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
