"""The float tensors of a model that want a scale."""

from __future__ import annotations

from onnx import ModelProto, TensorProto

from enginewright.graph.index import Graph
from enginewright.graph.placements import needed_tensors
from enginewright.graph.values import Values


def activations(model: ModelProto) -> list[str]:
    """The float tensors that want a scale, in the order of the graph: inputs first, then what each node gives.

    They are all that depend on an input; and of what depends on its shape alone, such as a learned query expanded over
    the batch, or on constants, those that a quantized layer reads.
    """
    graph = Graph(model)
    fed = Values(graph).fed
    ordered = [value.name for value in model.graph.input if value.name in fed]
    wanted = fed | needed_tensors(model)
    ordered += [tensor for node in graph.nodes for tensor in node.output if tensor in wanted]
    return [tensor for tensor in ordered if graph.element_type(tensor) in (TensorProto.FLOAT, TensorProto.UNDEFINED)]


def replaces_nan(graph: Graph, tensor: str) -> bool:
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
