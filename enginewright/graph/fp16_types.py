"""What type each tensor has, and which inputs and outputs of a node may be FP16: by ONNX's own operator schemas.

`onnx.shape_inference` knows the types too. It copies the whole model, takes 2 GiB at most, and writes down little
about graphs inside nodes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, defs

UNKNOWN = int(TensorProto.UNDEFINED)
FLOAT, FLOAT16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
OF_STRING = {f"tensor({name.lower()})": value for name, value in TensorProto.DataType.items()}
# A parameter that goes along with the data without being data: these stay float32, which every backend expects of them.
STAYING = {"Resize": {"T2"}, "Dropout": {"T1"}, "LayerNormalization": {"U"}, "GroupNormalization": {"U"}}
# Their scales are float32 before opset 19, and rounding a scale moves every value of the tensor.
QDQ = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
MADE_BY_ATTRIBUTE = ("Cast", "Constant", "ConstantOfShape", "EyeLike")
TYPE_ATTRIBUTES = ("dtype", "output_dtype", "output_datatype")
CONSTANT_TYPES = {
    "value_float": FLOAT,
    "value_floats": FLOAT,
    "value_int": int(TensorProto.INT64),
    "value_ints": int(TensorProto.INT64),
    "value_string": int(TensorProto.STRING),
    "value_strings": int(TensorProto.STRING),
}


@dataclass(frozen=True)
class Signature:
    """The type of each input and output of an operator: a variable such as T, or one type."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    repeats: tuple[bool, ...]  # whether the last input, and the last output, stands for any number of them
    allowed: Mapping[str, frozenset[str]]  # variable -> types that it may be

    def input(self, index: int) -> str:
        """The type of an input; empty if there is none at this place."""
        return _at(self.inputs, index, self.repeats[0])

    def output(self, index: int) -> str:
        """The type of an output; empty if there is none at this place."""
        return _at(self.outputs, index, self.repeats[1])


@dataclass(frozen=True)
class Halves:
    """The inputs and outputs of a node that are FP16 when it computes in FP16."""

    inputs: frozenset[int]
    outputs: frozenset[int]


class Types:
    """The element type of every tensor that a graph sees; UNKNOWN where an operator without a schema makes it."""

    def __init__(
        self,
        graph: GraphProto,
        opsets: Mapping[str, int],
        outer: Optional[Types] = None,
        inputs: Sequence[int] = (),
    ) -> None:
        """`outer`: of the graph around this one. `inputs`: types of graph inputs that state none."""
        self._opsets, self._outer = opsets, outer
        values = (*graph.value_info, *graph.output, *graph.input)
        tensors = [value for value in values if value.type.HasField("tensor_type")]
        self._known = {value.name: int(value.type.tensor_type.elem_type) for value in tensors}
        for value, given in zip(graph.input, inputs):
            self._known[value.name] = self._known.get(value.name) or given
        self._known.update({tensor.name: int(tensor.data_type) for tensor in graph.initializer})
        for node in graph.node:
            for name, kind in zip(node.output, self._made_by(node)):
                self._known[name] = kind or self._known.get(name, UNKNOWN)

    def __getitem__(self, name: str) -> int:
        if name in self._known:
            return self._known[name]
        return self._outer[name] if self._outer is not None else UNKNOWN

    def signature(self, node: NodeProto) -> Optional[Signature]:
        """None for an operator that ONNX does not define."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        return signature(node.op_type, self._opsets.get(domain, 1), domain)

    def halves(self, node: NodeProto) -> Optional[Halves]:
        """What of a float32 node turns to FP16; None if it cannot compute in FP16, or has nothing that could."""
        found = self.signature(node)
        if node.op_type == "Cast" and found is not None:
            return self._halves_of_cast(node)
        if found is None or node.op_type in QDQ or any(_decides(attribute) for attribute in node.attribute):
            return None
        places = [(found.input(index), self[name]) for index, name in enumerate(node.input) if name]
        places += [(found.output(index), self[name]) for index, name in enumerate(node.output) if name]
        if any(kind == UNKNOWN for _, kind in places):
            return None
        staying = STAYING.get(node.op_type, set())
        variables = {place for place, kind in places if kind == FLOAT and place in found.allowed} - staying
        if not variables or any("tensor(float16)" not in found.allowed[variable] for variable in variables):
            return None
        return Halves(
            frozenset(index for index, name in enumerate(node.input) if name and found.input(index) in variables),
            frozenset(index for index, name in enumerate(node.output) if name and found.output(index) in variables),
        )

    def _halves_of_cast(self, node: NodeProto) -> Optional[Halves]:
        reads, makes = self[node.input[0]] == FLOAT, self[node.output[0]] == FLOAT
        return Halves(frozenset({0} if reads else ()), frozenset({0} if makes else ())) if reads or makes else None

    def _made_by(self, node: NodeProto) -> list[int]:
        if node.op_type in MADE_BY_ATTRIBUTE and node.domain in ("", "ai.onnx"):
            return [self._by_attribute(node)]
        graphs = [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
        if graphs:
            return self._by_graph(node, graphs[0])
        found = self.signature(node)
        if found is None:
            return [UNKNOWN] * len(node.output)
        bound: dict[str, int] = {}
        for index, name in enumerate(node.input):
            if name and self[name] != UNKNOWN:
                bound.setdefault(found.input(index), self[name])
        for index, name in enumerate(node.input):  # what an unknown operator makes is what its neighbours are
            if self._known.get(name) == UNKNOWN and found.input(index) in found.allowed:
                self._known[name] = bound.get(found.input(index), UNKNOWN)
        stated = next((int(attribute.i) for attribute in node.attribute if attribute.name in TYPE_ATTRIBUTES), UNKNOWN)
        return [stated or _resolved(found, found.output(index), bound) for index in range(len(node.output))]

    def _by_attribute(self, node: NodeProto) -> int:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype"):
                return int(attribute.i)
            if attribute.name == "value":
                return int(attribute.t.data_type)
            if attribute.name == "sparse_value":
                return int(attribute.sparse_tensor.values.data_type)
            if attribute.name in CONSTANT_TYPES:
                return CONSTANT_TYPES[attribute.name]
        if node.op_type == "EyeLike":
            return self[node.input[0]]
        return FLOAT if node.op_type == "ConstantOfShape" else UNKNOWN

    def _by_graph(self, node: NodeProto, inner: GraphProto) -> list[int]:
        """If, Loop and Scan return what their graph returns, a Loop without the condition that comes first."""
        types = Types(inner, self._opsets, self, self.of_inner_inputs(node))
        return [types[value.name] for value in inner.output][1 if node.op_type == "Loop" else 0 :]

    def of_inner_inputs(self, node: NodeProto) -> list[int]:
        """The types that a Loop or a Scan gives to the inputs of its graph."""
        return [self[name] if name else UNKNOWN for name in node.input] if node.op_type in ("Loop", "Scan") else []


@functools.cache
def signature(op_type: str, version: int, domain: str) -> Optional[Signature]:
    """Of an operator as an opset has it; None if there is none."""
    try:
        schema = defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None
    variadic = defs.OpSchema.FormalParameterOption.Variadic
    return Signature(
        tuple(parameter.type_str for parameter in schema.inputs),
        tuple(parameter.type_str for parameter in schema.outputs),
        tuple(bool(listed) and listed[-1].option == variadic for listed in (schema.inputs, schema.outputs)),
        {constraint.type_param_str: frozenset(constraint.allowed_type_strs) for constraint in schema.type_constraints},
    )


def _decides(attribute: AttributeProto) -> bool:
    """Whether an attribute says what type a node makes, itself or by the graph that it holds."""
    return attribute.type == AttributeProto.GRAPH or attribute.name in TYPE_ATTRIBUTES


def _at(types: tuple[str, ...], index: int, repeats: bool) -> str:
    if index < len(types):
        return types[index]
    return types[-1] if repeats and types else ""


def _resolved(found: Signature, place: str, bound: Mapping[str, int]) -> int:
    if place in bound:
        return bound[place]
    allowed = found.allowed.get(place, frozenset({place}))
    return OF_STRING.get(next(iter(allowed)), UNKNOWN) if len(allowed) == 1 else UNKNOWN
