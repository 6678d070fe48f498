"""Where explicit INT8 of a transformer has its Q/DQ nodes beyond the inputs of products with weights, and which choice
is the default.

What was measured of them is in docs/decisions/0020-precision-mode.md; convolutional networks know none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, helper

from enginewright.graph.index import Graph
from enginewright.graph.names import Names
from enginewright.runtimes.tensorrt.mode import features


@dataclass(frozen=True)
class Placing:
    """Choices for networks with attention."""

    products_in_float: bool = False  # queries by keys, and scores by values, stay in FP16
    # Q/DQ in front of residual sums, as NVIDIA advises (github.com/NVIDIA/TensorRT/issues/3243)
    sums_in_int8: bool = False


LAYOUT = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Flatten")
DEPTH = 6
DEFAULT = Placing()
CHOSEN = DEFAULT


def left_in_float(model: ModelProto) -> dict[str, str]:
    """The products of attention, with the reason, where the choice is to leave them in float."""
    if not CHOSEN.products_in_float:
        return {}
    return dict.fromkeys(features(model).attention, "a product of attention, which TensorRT computes faster in FP16")


def placed(quantized: ModelProto, model: ModelProto, scales: Mapping[str, float]) -> ModelProto:
    """A model with Q/DQ nodes, made of `model`, with those further ones that the choice asks for."""
    return quantize_sums(quantized, model, scales) if CHOSEN.sums_in_int8 and features(model).attention else quantized


def residual_sums(model: ModelProto) -> tuple[str, ...]:
    """Names of the Adds that join two activations of which neither is a mask or a score.

    Those between the blocks of a transformer.
    """
    graph = Graph(model.graph)
    return tuple(graph.key(node) for node in graph.nodes if _is_residual_sum(graph, node))


def _is_residual_sum(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Add" or any(graph.constant(tensor) is not None for tensor in node.input):
        return False
    return any(_ends_branch(graph, tensor) for tensor in node.input) and not any(
        reader.op_type == "Softmax" for reader in graph.consumers(node.output[0])
    )


def _ends_branch(graph: Graph, tensor: str) -> bool:
    """Whether a product with stored weights makes a tensor, directly or through the sum with its bias and changes of
    layout.
    """
    for _ in range(DEPTH):
        node = graph.producer(tensor)
        if node is None:
            return False
        if node.op_type in ("MatMul", "Gemm"):
            return graph.constant(node.input[1]) is not None
        computed = [source for source in node.input if graph.constant(source) is None]
        if node.op_type not in LAYOUT and not (node.op_type == "Add" and len(computed) == 1):
            return False
        tensor = computed[0]
    return False


def quantize_sums(model: ModelProto, original: ModelProto, scales: Mapping[str, float]) -> ModelProto:
    """Return a copy of a Q/DQ model with pairs in front of both inputs of each residual sum of the float model that it
    was made from.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph, wanted = Graph(result.graph, Names(result)), set(residual_sums(original))
    added: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        if graph.key(node) not in wanted:
            continue
        for index, tensor in enumerate(node.input):
            if scales.get(tensor, 0.0) >= float(np.finfo(np.float32).tiny):
                pair = added.setdefault(tensor, []) or _pair(graph, tensor, scales[tensor])
                added[tensor] = pair
                node.input[index] = pair[-1].output[0]
    graph.insert_after_producers(added)
    return result


def _pair(graph: Graph, tensor: str, scale: float) -> list[NodeProto]:
    parameters = [
        graph.add_constant(graph.unique(f"{tensor}_sum_scale"), np.float32(scale)),
        graph.add_constant(graph.unique(f"{tensor}_sum_zero_point"), np.int8(0)),
    ]
    quantized, result = (graph.unique(f"{tensor}_sum_{what}") for what in ("quantized", "dequantized"))
    return [
        helper.make_node(
            "QuantizeLinear", [tensor, *parameters], [quantized], name=graph.unique(f"{quantized}_QuantizeLinear")
        ),
        helper.make_node(
            "DequantizeLinear", [quantized, *parameters], [result], name=graph.unique(f"{result}_DequantizeLinear")
        ),
    ]
