"""Where Q/DQ pairs stand: which inputs of which nodes read a quantized tensor, in the placement of each backend.

Source: NVIDIA, "TensorRT Developer Guide", "Explicit quantization"; ONNX Runtime, QDQ selectors in
onnxruntime/core/optimizer/qdq_transformer/selectors_actions (docs/decisions/0007-two-qdq-files.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from onnx import ModelProto, NodeProto

from enginewright.config import Placement
from enginewright.graph.constants import operator
from enginewright.graph.index import Graph
from enginewright.graph.reasons import COMPANIONS, SAME_SCALE, Case, is_quantizable, reasons, stored_operands

Use = tuple[NodeProto, int]  # a node, and which of its inputs


@dataclass(frozen=True)
class Choice:
    """What a placement depends on beside the graph."""

    layers: Sequence[NodeProto]  # those that run in INT8
    stays_float: Callable[[NodeProto], bool]  # whether a node beside them shall not
    why_no_scale: Callable[[str], Optional[str]]  # `Case.why_no_scale`

    def may_quantize(self, tensor: str) -> bool:
        """Whether a tensor has a scale, or must have one."""
        return self.why_no_scale(tensor) is None


@dataclass(frozen=True)
class Pairs:
    """The tensors that get a pair."""

    sources: dict[str, str]  # tensor -> the tensor whose scale it takes
    uses: list[Use]  # who reads the quantized one


def pairs(graph: Graph, choice: Choice, placement: Placement) -> Pairs:
    """Where pairs stand in `graph`. Every use is named once."""
    if placement is Placement.onnxruntime:
        sources = _chain(graph, choice)
        return Pairs(
            sources,
            [(node, index) for node in graph.nodes for index, tensor in enumerate(node.input) if tensor in sources],
        )
    uses: dict[tuple[int, int], Use] = {}
    for node in choice.layers:
        for index in {0, 1} - set(stored_operands(graph, node)):
            uses[id(node), index] = (node, index)
    for node, index in (*_residual_inputs(graph, choice), *_depthwise_outputs(graph, choice)):
        uses.setdefault((id(node), index), (node, index))
    return Pairs({node.input[index]: node.input[index] for node, index in uses.values()}, list(uses.values()))


def _residual_inputs(graph: Graph, choice: Choice) -> Iterator[Use]:
    """The skip input of each Add that joins a convolution: TensorRT fuses Conv + Add + Relu into one INT8 kernel if the
    skip is quantized.
    """
    for node in graph.nodes:
        if (
            operator(node) != "Add"
            or choice.stays_float(node)
            or any(graph.is_constant(tensor) for tensor in node.input)
        ):
            continue
        convolutions = [
            index
            for index, tensor in enumerate(node.input)
            if graph.is_conv_output(tensor) and len(graph.consumers(tensor)) == 1
        ]
        if convolutions:
            main = max(
                convolutions, key=lambda index: graph.position(node.input[index])
            )  # the later one ends the residual branch
            if choice.may_quantize(node.input[1 - main]):
                yield node, 1 - main


def _depthwise_outputs(graph: Graph, choice: Choice) -> Iterator[Use]:
    """What reads a grouped convolution, above all a depthwise one: TensorRT 8.6.0 has no INT8 kernel that writes
    floating point and took FP16.
    """
    for layer in choice.layers:
        if any(attribute.name == "group" and attribute.i > 1 for attribute in layer.attribute):
            output = graph.behind_relu(layer.output[0])
            if choice.may_quantize(output):
                yield from (
                    (reader, index)
                    for reader in graph.consumers(output)
                    for index, tensor in enumerate(reader.input)
                    if tensor == output
                )


def _chain(graph: Graph, choice: Choice) -> dict[str, str]:
    """Tensors that ONNX Runtime must see quantized so that every layer runs as an integer kernel -> the tensor whose
    scale each takes.

    A layer's inputs and its output, the latter behind a fused Relu or Clip. Companions between quantized tensors join
    the chain.
    """
    chain: dict[str, str] = {}
    for node in choice.layers:
        chain.update((tensor, tensor) for tensor in node.input[:2] if not graph.is_constant(tensor))
        output = graph.behind_relu(node.output[0])
        # QGemm and MatMulIntegerToFloat give float32: logits need no rounding. QLinearConv gives 8 bits only.
        if (operator(node) == "Conv" or output not in graph.outputs) and choice.may_quantize(output):
            chain[output] = output
    for node in graph.nodes:
        _join(graph, node, chain, choice)
    return chain


def _join(graph: Graph, node: NodeProto, chain: dict[str, str], choice: Choice) -> None:
    """Let a companion whose inputs are all in the chain bring its output in."""
    tensors = [tensor for tensor in node.input if tensor and not graph.is_constant(tensor)]
    if (
        operator(node) not in COMPANIONS
        or choice.stays_float(node)
        or not tensors
        or any(tensor not in chain for tensor in tensors)
    ):
        return
    if operator(node) in ("Add", "Mul") and len(tensors) < 2:
        return
    if operator(node) in SAME_SCALE:
        chain[node.output[0]] = chain[tensors[0]]
    elif (output := graph.behind_relu(node.output[0])) not in graph.outputs and choice.may_quantize(output):
        chain.setdefault(output, output)


def needed_tensors(model: ModelProto) -> set[str]:
    """The tensors of which `insert_qdq` wants a scale, in either placement; some of these if layers stay in float."""
    found: set[str] = set()
    for placement in Placement:
        case = Case(model, None, placement)
        left = reasons(case)
        layers = [node for node in case.graph.nodes if is_quantizable(node) and case.key(node) not in left]
        found.update(pairs(case.graph, Choice(layers, lambda _: False, lambda _: None), placement).sources.values())
    return found
