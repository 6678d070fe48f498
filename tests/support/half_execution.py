"""Runs a graph node by node, so that every tensor between two nodes is of the type that the graph says.

ONNX Runtime on a CPU computes most FP16 operators through float32 and takes out the Casts between two of them: an
engine of it never rounds what passes from one to the next, and never overflows there. A GPU does both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from enginewright.graph.names import inner_graphs

Array = npt.NDArray[Any]


def run_by_node(model: ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs. Each node runs in a session of its own, with sums in float32 and its result rounded."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    values.update({value.name: feeds[value.name] for value in model.graph.input if value.name in feeds})
    for node in model.graph.node:
        values.update(_computed(node, values, model))
    return {value.name: values[value.name] for value in model.graph.output}


def _computed(node: NodeProto, values: Mapping[str, Array], model: ModelProto) -> dict[str, Array]:
    import onnxruntime

    read = {name for name in node.input if name} | {name for inner in inner_graphs(node) for name in _captured(inner)}
    given = {name: values[name] for name in sorted(read & set(values))}
    made = [name for name in node.output if name]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    graph = helper.make_graph([node], "node", inputs, [onnx.ValueInfoProto(name=name) for name in made])
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(single.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with np.errstate(all="ignore"):
        return dict(zip(made, session.run(made, given)))


def _captured(graph: GraphProto) -> set[str]:
    """What a graph, or one inside it, reads."""
    names = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return names.union(*(_captured(inner) for node in graph.node for inner in inner_graphs(node)))
