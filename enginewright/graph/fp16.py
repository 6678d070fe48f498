"""FP32 ONNX to FP16 ONNX, for every backend that takes its precision from the model itself.

A float32 tensor keeps its name and type wherever something reads it as float32: a node that stays in FP32, an inner
graph, the outside. Nodes that compute in FP16 read a second tensor; a Cast makes it of the first, or the first of it.
So no tensor ever has a type that its maker or a reader does not expect, whatever the model holds already. No maintained
converter passes the tests of this one (docs/decisions/0019-fp16-conversion.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Optional

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner

from enginewright.graph.fp16_constants import Constants, as_half
from enginewright.graph.fp16_kept import Kept
from enginewright.graph.fp16_types import FLOAT, FLOAT16, Halves, Types
from enginewright.graph.names import Names, inner_graphs

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NOT_OVERRIDABLE = 4  # the IR version from which initializers need not be inputs


def to_fp16(model: ModelProto) -> ModelProto:
    """Return a copy that computes in FP16, with the inputs, outputs and opset of the model.

    Q/DQ nodes keep float32 scales and inputs. Initializers that are graph inputs too become plain initializers, and
    local functions are inlined.

    Warns: UserWarning: for each convolution or matrix product that stays in FP32.
    """
    result = ModelProto()
    result.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    stored = {tensor.name for tensor in result.graph.initializer}
    fed = [value for value in result.graph.input if value.name not in stored]
    if len(fed) < len(result.graph.input):
        del result.graph.input[:]
        result.graph.input.extend(fed)
    result.ir_version = max(result.ir_version, NOT_OVERRIDABLE)
    opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in result.opset_import}
    _Converter(result.graph, opsets, Names(result)).convert()
    _drop_unread(result.graph)
    return result


class _Converter:
    """Converts one graph, and those inside its nodes."""

    def __init__(
        self,
        graph: GraphProto,
        opsets: Mapping[str, int],
        names: Names,
        outer: Optional[_Converter] = None,
        node: Optional[NodeProto] = None,
    ) -> None:
        """`outer` and `node`: of the graph around this one, and the node that holds it."""
        self._graph, self._opsets, self._names, self._outer = graph, opsets, names, outer
        given = outer.types.of_inner_inputs(node) if outer is not None and node is not None else ()
        self.types: Types = Types(graph, opsets, outer.types if outer else None, given)
        self.constants: Constants = Constants(graph, outer.constants if outer else None)
        inputs = () if outer else [value.name for value in graph.input]
        self.kept: Kept = Kept(
            graph.node, self.constants, self.types.__getitem__, inputs, outer.kept if outer else None
        )
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._made = {name for node in graph.node for name in node.output} | set(self._stored)
        self._halves = [self._halves_of(index, node) for index, node in enumerate(graph.node)]
        self._spare_casts()
        self._as_float, self._as_half = self._wanted()
        self._made_half = {node.output[index] for node, halves in self._pairs() if halves for index in halves.outputs}
        own = self._made_half | {name for name in self._made if name in self.constants}
        free = own - self._as_float  # as nothing reads them as float32, they need no second name
        wanted = sorted(self._as_half)
        self._renamed = {name: name if name in free else names.unique(f"{name}_fp16") for name in wanted}

    def convert(self) -> None:
        """Edit the graph in place."""
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in self._converted()]
        half = {name for name, renamed in self._renamed.items() if name == renamed} | self._made_half
        half -= self._as_float
        for value in self._graph.value_info:
            if value.name in half:
                value.type.tensor_type.elem_type = FLOAT16
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _pairs(self) -> Iterator[tuple[NodeProto, Optional[Halves]]]:
        return zip(self._graph.node, self._halves)

    def _halves_of(self, index: int, node: NodeProto) -> Optional[Halves]:
        halves = self.types.halves(node)
        if halves is not None and index not in self.kept.reasons:
            return halves
        if node.op_type in LAYERS and FLOAT in {self.types[name] for name in node.input if name}:
            reason = self.kept.reasons.get(index, "the model does not say what type its inputs have")
            warnings.warn(f"{node.name or node.output[0]} ({node.op_type}) stays in FP32: {reason}", stacklevel=4)
        return None

    def _spare_casts(self) -> None:
        """Leave the model's own Casts between FP16 and float32 alone where they do already what is wanted."""
        made = {node.output[index] for node, halves in self._pairs() if halves for index in halves.outputs}
        read = {node.input[index] for node, halves in self._pairs() if halves for index in halves.inputs}
        for place, (node, halves) in enumerate(self._pairs()):
            if node.op_type == "Cast" and halves is not None:
                from_float32 = halves.inputs and node.input[0] not in made and not halves.outputs
                to_float32 = halves.outputs and node.output[0] not in read and not halves.inputs
                self._halves[place] = None if from_float32 or to_float32 else halves

    def _wanted(self) -> tuple[set[str], set[str]]:
        """The float32 tensors that something reads as float32, and those that something reads as FP16."""
        as_float = {value.name for value in self._graph.output}
        as_half: set[str] = set()
        for node, halves in self._pairs():
            read_as_half = halves.inputs if halves else frozenset()
            for index, name in enumerate(node.input):
                if node.op_type not in ("Shape", "Size"):  # they read either
                    (as_half if index in read_as_half else as_float).add(name)
            as_float.update(name for inner in inner_graphs(node) for name in _read(inner))
        return as_float, as_half

    def _converted(self) -> Iterator[NodeProto]:
        """All nodes in order, each with the Casts that it needs behind it."""
        for name in sorted(self._as_half - self._made):
            if name in self.constants:  # of the graph around this one
                self._add_constant(name)
            else:
                yield self._cast(name, self._renamed[name], FLOAT16)
        for name in [tensor.name for tensor in self._graph.initializer if tensor.name in self._as_half]:
            self._add_constant(name)
        for node, halves in self._pairs():
            if node.op_type == "Constant" and node.output[0] in self._as_half:
                self._add_constant(node.output[0])
                if node.output[0] in self._as_float:
                    yield node
            elif halves is None:
                yield from self._left(node)
            else:
                yield from self._halved(node, halves)

    def _left(self, node: NodeProto) -> Iterator[NodeProto]:
        """A node that stays as it is."""
        for inner in inner_graphs(node):
            _Converter(inner, self._opsets, self._names, self, node).convert()
        if node.op_type == "Pow" and self._is_two(node.input[1]):
            # The same numbers. ONNX Runtime's LayerNormFusion takes this Pow for a norm's, and binds one type to two.
            node.op_type = "Mul"
            node.input[1] = node.input[0]
        yield node
        yield from (self._cast(name, self._renamed[name], FLOAT16) for name in node.output if name in self._as_half)

    def _halved(self, node: NodeProto, halves: Halves) -> Iterator[NodeProto]:
        """A node in FP16."""
        for index in halves.inputs:
            node.input[index] = self._renamed[node.input[index]]
        back = []
        for index in halves.outputs:
            name = node.output[index]
            if name in self._as_float:
                node.output[index] = self._renamed.get(name) or self._names.unique(f"{name}_fp16")
                back.append(self._cast(node.output[index], name, FLOAT))
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and halves.outputs:
                attribute.i = FLOAT16
        yield node
        yield from back

    def _is_two(self, name: str) -> bool:
        value = self.constants.array(name)
        return value is not None and value.size == 1 and value.ndim < 2 and float(value.reshape(-1)[0]) == 2.0

    def _cast(self, source: str, result: str, kind: int) -> NodeProto:
        return helper.make_node("Cast", [source], [result], name=self._names.unique(f"{result}_Cast"), to=kind)

    def _add_constant(self, name: str) -> None:
        """Store a constant in FP16: instead of the float32 one, or beside it."""
        values = self.constants.array(name)
        assert values is not None  # float32 constants alone are wanted in FP16
        half = as_half(values, self._renamed[name])
        if half.name in self._stored:
            self._stored[half.name].CopyFrom(half)
        else:
            self._graph.initializer.append(half)


def _read(graph: GraphProto) -> set[str]:
    """Every name that a graph, or one inside it, reads or returns."""
    names = {value.name for value in graph.output} | {name for node in graph.node for name in node.input}
    return names.union(*(_read(inner) for node in graph.node for inner in inner_graphs(node)))


def _drop_unread(graph: GraphProto) -> None:
    """Remove what the conversion left without a reader: float32 weights that inner graphs have in FP16 now."""
    read = _read(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(kept) < len(graph.initializer):
        copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)
