"""Why a layer is left in floating point although INT8 was asked for: one place that decides it, and says it.

`insert_qdq` leaves exactly these nodes in float, the builders hand the reasons on as `BuiltEngine.left_in_float`, and
`build` writes them into the engine's manifest. To add a reason, add a rule to RULES: no other code decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Optional

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from enginewright.config import Placement
from enginewright.graph.constants import operator
from enginewright.graph.fold import BATCH_NORMALIZATION, fold_batch_normalization
from enginewright.graph.index import Graph
from enginewright.graph.names import inner_graphs
from enginewright.graph.values import Values

QUANTIZABLE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# ONNX Runtime moves or drops a Q/DQ pair around these only if scale and zero point are the same on both sides.
SAME_SCALE = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
# ONNX Runtime has an integer kernel for these, so a chain of quantized layers stays in INT8 across them.
COMPANIONS = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", *SAME_SCALE)
INSIDE = "it lies inside a branch or a loop"
IN_FUNCTION = "it lies inside a function of the model's own"


class Case:
    """A model to be quantized, BatchNormalization folded, and all that a rule may look at beside the node."""

    def __init__(self, model: ModelProto, scales: Optional[Collection[str]], placement: Placement) -> None:
        """`scales`: the tensors that have one; None where every tensor shall count as one of them."""
        self.model = fold_batch_normalization(model)
        self.graph = Graph(self.model)
        self.scales, self.placement = scales, placement
        self.values = Values(self.graph)
        self._original = Graph(model)

    def key(self, node: NodeProto) -> str:
        """What results and `exclude` call a node: its name, else its first output, in the model before it was
        folded.
        """
        output = next(filter(None, node.output), "")
        maker = self._original.producer(output)
        while maker is not None and operator(maker) == BATCH_NORMALIZATION != operator(node):
            maker = self._original.producer(maker.input[0])
        return self._original.key(node if maker is None else maker)

    def excluded(self, exclude: Collection[str]) -> frozenset[str]:
        """The `key` of every node that is named to stay in float."""
        named = set(exclude) - {""}
        return frozenset(
            key for node in self.graph.nodes for key in [self.key(node)] if node.name in named or key in named
        )

    def folded_names(self, names: Collection[str]) -> tuple[str, ...]:
        """What `Graph.key` calls the nodes of these keys once BatchNormalization is folded; those folded away are left
        out.
        """
        named = self.excluded(names)
        return tuple(self.graph.key(node) for node in self.graph.nodes if self.key(node) in named)

    def why_no_scale(self, tensor: str) -> Optional[str]:
        """Why a tensor rightly has no scale; None if it has one, or if scales of this model would hold it."""
        if self.scales is None or tensor in self.scales:
            return None
        return self.values.why_no_range(tensor)


# The reason in one short clause that follows "runs in float:"; None if there is none.
Rule = Callable[[NodeProto, Case], Optional[str]]


def is_quantizable(node: NodeProto) -> bool:
    """Whether INT8 is about this node: a Conv, ConvTranspose, Gemm or MatMul of ONNX itself."""
    return operator(node) in QUANTIZABLE


def stored_operands(graph: Graph, node: NodeProto) -> tuple[int, ...]:
    """Which of the two factors of a layer are constants; the others are activations."""
    return tuple(index for index in (0, 1) if graph.is_constant(node.input[index]))


def reasons(case: Case, exclude: Collection[str] = ()) -> dict[str, str]:
    """`left_in_float` of a case."""
    chosen = case.excluded(exclude)
    found: dict[str, str] = {}
    for node in case.graph.nodes:
        key = case.key(node)
        rules = RULES.get(operator(node), ()) if key not in chosen else ()
        if why := next((why for rule in rules if (why := rule(node, case))), None):
            found[key] = why
    for graph in (inner for node in case.graph.nodes for inner in inner_graphs(node)):
        found.update((node.name or node.output[0], INSIDE) for node in _all_nodes(graph.node) if is_quantizable(node))
    for function in case.model.functions:
        found.update(
            (node.name or node.output[0], IN_FUNCTION) for node in _all_nodes(function.node) if is_quantizable(node)
        )
    return found


def left_in_float(
    model: ModelProto, scales: Collection[str], placement: Placement, exclude: Collection[str] = ()
) -> dict[str, str]:
    """Which nodes of a float model `insert_qdq` leaves in float of itself, and why.

    Args:
        model: FP32, as `insert_qdq` takes it.
        scales: the tensors that have one.
        placement: which backend's.
        exclude: names of nodes that stay float because the user, or the search, chose so; they are not among the
        result.

    Returns:
        A node's name (its first output where it has no name of its own, or shares it) -> the reason in one short
        clause that follows "runs in float:".
    """
    return reasons(Case(model, scales, placement), exclude)


def explained(warning: str, name: str, left: Mapping[str, str]) -> str:
    """A warning about the node `name`, with the reason behind it where there is one."""
    return f"{warning}: {left[name]}" if name in left else warning


def _all_nodes(nodes: Collection[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for inner in inner_graphs(node):
            yield from _all_nodes(inner.node)


def _computed_weight(node: NodeProto, case: Case) -> Optional[str]:
    """Of a Conv, ConvTranspose or Gemm, whose kernels want stored weights."""
    return None if case.graph.is_constant(node.input[1]) else "its weight is computed in the graph, not stored"


def _constants_alone(node: NodeProto, case: Case) -> Optional[str]:
    return "both its factors are constants" if len(stored_operands(case.graph, node)) == 2 else None


def _unusable_constant(node: NodeProto, case: Case) -> Optional[str]:
    for index in stored_operands(case.graph, node):
        value = case.graph.constant(node.input[index])
        if value is None:
            return f"the value of its constant {node.input[index]} cannot be computed before it runs"
        if not value.size:
            return f"its constant {node.input[index]} holds no value"
        if value.dtype == np.float32 and not np.isfinite(value).all():
            return f"its constant {node.input[index]} holds a NaN or infinity"
    return None


def _other_type(node: NodeProto, case: Case) -> Optional[str]:
    for tensor in node.input[:2]:
        if case.graph.element_type(tensor) not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
            return f"it computes in {case.values.type_of(tensor)}, and scales are for float32"
    return None


def _unscaled_input(node: NodeProto, case: Case) -> Optional[str]:
    fed = [tensor for tensor in node.input[:2] if not case.graph.is_constant(tensor)]
    return next((why for tensor in fed if (why := case.why_no_scale(tensor))), None)


def _unscaled_output(node: NodeProto, case: Case) -> Optional[str]:
    """QLinearConv of ONNX Runtime gives 8 bits, never float32."""
    return (
        case.why_no_scale(case.graph.behind_relu(node.output[0])) if case.placement is Placement.onnxruntime else None
    )


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
    """QLinearAveragePool of ONNX Runtime 1.32 divides a last window that ceil_mode lets hang over by the whole kernel,
    and knows no dilations.
    """
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if case.placement is not Placement.onnxruntime:
        return None
    if "dilations" in attributes and any(step != 1 for step in attributes["dilations"].ints):
        return "ONNX Runtime's integer AveragePool has no dilations"
    both = all(name in attributes and attributes[name].i for name in ("ceil_mode", "count_include_pad"))
    return "ONNX Runtime's integer AveragePool is wrong with ceil_mode and count_include_pad" if both else None


ALWAYS: tuple[Rule, ...] = (_constants_alone, _other_type, _unusable_constant, _unscaled_input)
RULES: Mapping[str, tuple[Rule, ...]] = {
    "AveragePool": (_wrong_average,),
    "Conv": (_computed_weight, _odd_bias, *ALWAYS, _unscaled_output),
    "ConvTranspose": (_computed_weight, _no_integer_kernel, *ALWAYS),
    "Gemm": (_computed_weight, _odd_bias, *ALWAYS),
    "MatMul": ALWAYS,
}
