"""Why a layer is left in floating point although INT8 was asked for: one place that decides it, and says it.

`insert_qdq` leaves exactly these nodes in float, the builders hand the reasons on as `BuiltEngine.left_in_float`, and `build` writes them into the
engine's manifest. To add a reason, add a rule to RULES: no other code decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Optional

from onnx import ModelProto, NodeProto

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.fold import fold_batch_normalization
from enginewright.calibration.graph import Graph
from enginewright.config import Placement

QUANTIZABLE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# ONNX Runtime moves or drops a Q/DQ pair around these only if scale and zero point are the same on both sides.
SAME_SCALE = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
# ONNX Runtime has an integer kernel for these, so a chain of quantized layers stays in INT8 across them.
COMPANIONS = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", *SAME_SCALE)
STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Case:
    """What a rule may look at beside the node."""

    graph: Graph
    cache: CalibrationCache
    placement: Placement


Rule = Callable[[NodeProto, Case], Optional[str]]  # the reason in one short clause ("its weight is computed in the graph"), None if there is none


def is_quantizable(node: NodeProto) -> bool:
    """Whether INT8 is about this node: a Conv, ConvTranspose, Gemm or MatMul of ONNX itself."""
    return node.op_type in QUANTIZABLE and node.domain in STANDARD_DOMAINS


def excluded(graph: Graph, exclude: Collection[str]) -> frozenset[str]:
    """The `Graph.key` of every node that is named to stay in float; a node without a name of its own goes by its key."""
    named = set(exclude) - {""}
    return frozenset(key for node in graph.nodes for key in [graph.key(node)] if node.name in named or key in named)


def left_in_float(model: ModelProto, cache: CalibrationCache, placement: Placement, exclude: Collection[str] = ()) -> dict[str, str]:
    """Which nodes of a float model `insert_qdq` leaves in float of itself, and why.

    Args:
        model: FP32, as `insert_qdq` takes it.
        cache: its scales.
        placement: which backend's.
        exclude: names of nodes that stay float because the user, or the search, chose so; they are not among the result.

    Returns:
        A node's name (its first output where it has no name of its own, or shares it) -> the reason in one short clause that follows "runs in float:".
    """
    folded = fold_batch_normalization(model)
    graph = Graph(folded)
    case, chosen = Case(graph, cache, placement), excluded(graph, exclude)
    found: dict[str, str] = {}
    for node in graph.nodes:
        rules = RULES.get(node.op_type, ()) if node.domain in STANDARD_DOMAINS and graph.key(node) not in chosen else ()
        if why := next((why for rule in rules if (why := rule(node, case))), None):
            found[graph.key(node)] = why
    return found


def explained(warning: str, name: str, left: Mapping[str, str]) -> str:
    """A warning about the node `name`, with the reason behind it where there is one."""
    return f"{warning}: {left[name]}" if name in left else warning


def _computed_weight(node: NodeProto, case: Case) -> Optional[str]:
    if case.graph.constant(node.input[1]) is not None:
        return None
    return "its weight is computed in the graph, not stored"


def _odd_bias(node: NodeProto, case: Case) -> Optional[str]:
    """ONNX Runtime's integer kernels add one int32 a channel; TensorRT adds any bias in float."""
    if case.placement is not Placement.onnxruntime or len(node.input) < 3 or not node.input[2]:
        return None
    bias = case.graph.constant(node.input[2])
    if bias is None:
        return "its bias is computed in the graph, not stored"
    return "its bias is not one value a channel" if bias.ndim > 1 and bias.shape[0] > 1 else None


def _no_integer_kernel(node: NodeProto, case: Case) -> Optional[str]:
    return f"ONNX Runtime has no integer kernel for {node.op_type}" if case.placement is Placement.onnxruntime else None


def _wrong_average(node: NodeProto, case: Case) -> Optional[str]:
    """QLinearAveragePool of ONNX Runtime 1.32 divides a last window that ceil_mode lets hang over by the whole kernel, and knows no dilations."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if case.placement is not Placement.onnxruntime:
        return None
    if "dilations" in attributes and any(step != 1 for step in attributes["dilations"].ints):
        return "ONNX Runtime's integer AveragePool has no dilations"
    both = all(name in attributes and attributes[name].i for name in ("ceil_mode", "count_include_pad"))
    return "ONNX Runtime's integer AveragePool is wrong with ceil_mode and count_include_pad" if both else None


RULES: Mapping[str, tuple[Rule, ...]] = {
    "AveragePool": (_wrong_average,),
    "Conv": (_computed_weight, _odd_bias),
    "ConvTranspose": (_computed_weight, _no_integer_kernel),
    "Gemm": (_computed_weight, _odd_bias),
}
