"""The graphs of half_graphs.txt, each with something that an FP16 conversion can get wrong."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, helper, numpy_helper

Array = npt.NDArray[Any]

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> graph '
SCALES = {"big": 2e5}  # of a weight by its name
FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
graph (float[N,6] x) => (float[N,6] y) <float[6,6] w> {
    s = MatMul (x, w)  y = local.gate <slope = 0.7> (s)
}
<domain: "local", opset_import: ["" : 17]>
gate <slope> (a) => (b) {
    k = Constant <value_float: float = @slope> ()  p = Mul (a, k)  q = Sigmoid (p)  b = Mul (a, q)
}
"""
ENTRY = re.compile(r"^# (\w+)\n(.*?)(?=\n\n#|\n?\Z)", re.MULTILINE | re.DOTALL)
TEXTS = dict(ENTRY.findall(Path(__file__).with_suffix(".txt").read_text()))
HALF_GRAPHS = [*TEXTS, "a_function_body"]


def half_graph(name: str) -> ModelProto:
    """One of HALF_GRAPHS with its weights, checked in full."""
    model: ModelProto = onnx.parser.parse_model(FUNCTION if name == "a_function_body" else HEAD + TEXTS[name])
    if "com.microsoft" not in TEXTS.get(name, ""):
        for entry in [entry for entry in model.opset_import if entry.domain == "com.microsoft"]:
            model.opset_import.remove(entry)
    for index, node in enumerate(model.graph.node if name != "unnamed_nodes" else ()):
        node.name = f"{node.op_type}_{index}"  # as exporters do
    _add_weights(model, name)
    onnx.checker.check_model(model, full_check=True)
    return model


def feeds(model: ModelProto, batch: int = 2, seed: int = 0) -> dict[str, Array]:
    """Standard normal values for every input (whole ones for integers), where a symbolic axis has `batch` places."""
    random = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for value in model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [axis.dim_value or batch for axis in value.type.tensor_type.shape.dim]
        whole = np.issubdtype(kind, np.integer)
        values[value.name] = (random.integers(0, 100, shape) if whole else random.standard_normal(shape)).astype(kind)
    return values


def _add_weights(model: ModelProto, name: str) -> None:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    graph = model.graph
    made = {output for node in graph.node for output in node.output}
    made |= {value.name for value in (*graph.initializer, *graph.input)}
    missing = {value.name: value for value in (*graph.value_info, *graph.output) if value.name not in made}
    for value in missing.values():
        shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        drawn = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) * SCALES.get(value.name, 1)
        if value.name == "infinite":
            drawn = np.where(np.arange(drawn.size) % 2, 0, -np.inf)
        graph.initializer.append(numpy_helper.from_array(drawn.astype(kind), value.name))
    for value in [value for value in graph.value_info if value.name in missing]:
        graph.value_info.remove(value)
