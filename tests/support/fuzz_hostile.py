"""Graphs that something is wrong with: what check_onnx must fail, or pass where it only looks wrong, and never stumble
over.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from support.fuzz import draft
from support.fuzz_draft import Array

Mutation = Callable[[ModelProto, np.random.Generator], None]
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def hostile(kind: str, seed: int) -> ModelProto:
    """A random graph with one fault of this kind. Equal arguments give equal graphs."""
    model, number = draft(seed), 0
    while not layers(model):
        number += 1
        model = draft(seed * 1000 + number)
    MUTATIONS[kind](model, np.random.default_rng(seed))
    return model


def write(kind: str, seed: int, path: Path) -> None:
    """The same as a file; some kinds are faults of the file and not of the graph."""
    content = hostile(kind, seed).SerializeToString()
    random = np.random.default_rng(seed)
    if kind == "cut short":
        content = content[: int(random.integers(1, len(content) - 1))]
    elif kind == "flipped bytes":
        values = bytearray(content)
        for place in random.integers(0, len(values), 8):
            values[place] ^= int(random.integers(1, 256))
        content = bytes(values)
    path.write_bytes(content)


def layers(model: ModelProto) -> list[NodeProto]:
    """Layers with a stored weight, that the answer needs: the last ones come first."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [node for node in reversed(model.graph.node) if node.op_type in LAYERS and node.input[1] in stored]


def weight(model: ModelProto) -> tuple[TensorProto, Array]:
    """The weight of a layer, and its values to be changed."""
    name = layers(model)[0].input[1]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor, numpy_helper.to_array(tensor).copy()


def filled(value: float) -> Mutation:
    """One value of a layer's weight is another."""

    def change(model: ModelProto, random: np.random.Generator) -> None:
        tensor, values = weight(model)
        values.reshape(-1)[int(random.integers(values.size))] = value
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def typed_weight(dtype: type) -> Mutation:
    """A layer's weight is of another type than what it multiplies."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        tensor, values = weight(model)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))

    return change


def shaped_weight(model: ModelProto, _: np.random.Generator) -> None:
    """A weight that no longer fits."""
    tensor, values = weight(model)
    tensor.CopyFrom(numpy_helper.from_array(np.concatenate([values, values, values], axis=0)[:-1], tensor.name))


def axes(*sizes: object) -> Mutation:
    """The input's first axes are these; None leaves one as it is, "" makes it unknown."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        shape = model.graph.input[0].type.tensor_type.shape
        for axis, size in zip(shape.dim, sizes):
            if isinstance(size, int):
                axis.dim_value = size
            elif size == "":
                axis.Clear()
            elif isinstance(size, str):
                axis.dim_param = size

    return change


def without_shape(model: ModelProto, _: np.random.Generator) -> None:
    """The input has no shape."""
    model.graph.input[0].type.tensor_type.ClearField("shape")


def input_type(kind: int) -> Mutation:
    """The input is of another type, and is cast."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        fed = model.graph.input[0]
        fed.type.tensor_type.elem_type = kind
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name == fed.name:
                    node.input[index] = "the cast input"
        model.graph.node.insert(
            0, helper.make_node("Cast", [fed.name], ["the cast input"], name="the cast", to=TensorProto.FLOAT)
        )

    return change


def second_input(model: ModelProto, _: np.random.Generator) -> None:
    """The answer needs a second input."""
    output = model.graph.output[0]
    other = onnx.ValueInfoProto()
    other.CopyFrom(output)
    other.name = "the second input"
    model.graph.input.append(other)
    _behind_the_output(model, "Add", [output.name, other.name])


def behind(operator: str, domain: str = "", **attributes: Any) -> Mutation:
    """The answer goes through one more operator."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))
        _behind_the_output(model, operator, [model.graph.output[0].name], domain=domain or None, **attributes)

    return change


def _behind_the_output(model: ModelProto, operator: str, inputs: list[str], **attributes: Any) -> None:
    name = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, each in enumerate(names):
                if each == name:
                    names[index] = "before the last"
    inputs = ["before the last" if each == name else each for each in inputs]
    model.graph.node.append(helper.make_node(operator, inputs, [name], name="the last", **attributes))


def opset(version: int) -> Mutation:
    """The file says that it is of another opset; 0: of none."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        if version:
            model.opset_import[0].version = version
        else:
            del model.opset_import[:]

    return change


def quantized(model: ModelProto, _: np.random.Generator) -> None:
    """A Q/DQ pair stands behind the input."""
    name = model.graph.input[0].name
    for node in model.graph.node:
        for index, each in enumerate(node.input):
            if each == name:
                node.input[index] = "dequantized here"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.03, np.float32), "scale of the input"))
    pair = [("QuantizeLinear", name, "quantized here"), ("DequantizeLinear", "quantized here", "dequantized here")]
    for place, (operator, source, result) in enumerate(pair):
        node = helper.make_node(operator, [source, "scale of the input"], [result], name=operator)
        model.graph.node.insert(place, node)


def undefined(model: ModelProto, _: np.random.Generator) -> None:
    """A layer reads what nothing makes."""
    layers(model)[0].input[0] = "nothing makes this"


def made_twice(model: ModelProto, _: np.random.Generator) -> None:
    """Two nodes make one tensor."""
    model.graph.node.append(model.graph.node[-1])


def named_twice(model: ModelProto, _: np.random.Generator) -> None:
    """Two nodes have one name, which ONNX allows and ONNX Runtime does not."""
    model.graph.node[-1].name = "the same"
    _behind_the_output(model, "Relu", [model.graph.output[0].name])
    model.graph.node[-1].name = "the same"


def unsorted(model: ModelProto, _: np.random.Generator) -> None:
    """Nodes stand in the reverse order."""
    _behind_the_output(model, "Relu", [model.graph.output[0].name])
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def cyclic(model: ModelProto, _: np.random.Generator) -> None:
    """A layer reads what is made of its own output."""
    layer = layers(model)[0]
    model.graph.node.append(helper.make_node("Relu", [layer.output[0]], ["around"], name="around"))
    layer.input[0] = "around"


def other_output(model: ModelProto, _: np.random.Generator) -> None:
    """The graph returns what nothing makes."""
    model.graph.output[0].name = "nothing makes this"


def cleared(field: str) -> Mutation:
    """The graph has none of these."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        model.graph.ClearField(field)

    return change


def claimed(*dims: int) -> Mutation:
    """A weight claims to be of a size that its bytes are not."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        tensor, _values = weight(model)
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def data_type(number: int) -> Mutation:
    """A weight claims to be of another type than its bytes."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        weight(model)[0].data_type = number

    return change


def external(location: str, offset: int) -> Mutation:
    """A weight lies in another file."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        tensor = weight(model)[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", "64")):
            tensor.external_data.add(key=key, value=value)

    return change


def stored_twice(model: ModelProto, _: np.random.Generator) -> None:
    """Two initializers have one name."""
    model.graph.initializer.append(weight(model)[0])


def training(model: ModelProto, _: np.random.Generator) -> None:
    """A BatchNormalization takes the statistics of its batch."""
    size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for name in ("gain", "shift", "mean", "variance"):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(size, np.float32), f"training {name}"))
    inputs = [model.graph.input[0].name, *(f"training {name}" for name in ("gain", "shift", "mean", "variance"))]
    node = helper.make_node(
        "BatchNormalization", inputs, ["trained", "new mean", "new variance"], name="training", training_mode=1
    )
    for other in model.graph.node:
        for index, each in enumerate(other.input):
            if each == inputs[0]:
                other.input[index] = "trained"
    model.graph.node.insert(0, node)


def baked(model: ModelProto, _: np.random.Generator) -> None:
    """The batch of an example stands in a Reshape."""
    output = model.graph.output[0]
    shape = [2, *(axis.dim_value for axis in output.type.tensor_type.shape.dim[1:])]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "baked shape"))
    _behind_the_output(model, "Reshape", [output.name, "baked shape"])


def chosen(model: ModelProto, _: np.random.Generator) -> None:
    """The answer comes from one of two branches, by a stored condition."""
    name = model.graph.output[0].name
    _behind_the_output(model, "Identity", [name])
    branches = []
    for operator in ("Relu", "Neg"):
        result = helper.make_tensor_value_info(f"{operator} of the branch", TensorProto.FLOAT, None)
        node = helper.make_node(operator, ["before the last"], [result.name], name=f"{operator} inside")
        branches.append(helper.make_graph([node], operator, [], [result]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "the condition"))
    choice = helper.make_node(
        "If", ["the condition"], [name], name="the choice", then_branch=branches[0], else_branch=branches[1]
    )
    model.graph.node[-1].CopyFrom(choice)


def local_function(model: ModelProto, _: np.random.Generator) -> None:
    """The answer goes through a function that the model brings along."""
    body = [helper.make_node("Relu", ["x"], ["y"], name="inner")]
    imports = [helper.make_opsetid("", model.opset_import[0].version)]
    model.functions.append(helper.make_function("own.functions", "Own", ["x"], ["y"], body, imports))
    model.opset_import.append(helper.make_opsetid("own.functions", 1))
    _behind_the_output(model, "Own", [model.graph.output[0].name], domain="own.functions")


def listed_weights(model: ModelProto, _: np.random.Generator) -> None:
    """Every weight is an input too, as IR version 3 wants it."""
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def unused_input(model: ModelProto, _: np.random.Generator) -> None:
    """The answer does not depend on the input."""
    name = model.graph.input[0].name
    shape = [2, *(axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:])]
    model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), "in its place"))
    for node in model.graph.node:
        for index, each in enumerate(node.input):
            if each == name:
                node.input[index] = "in its place"


def attribute(name: str, value: object) -> Mutation:
    """A layer has an attribute that it must not have, or of another type."""

    def change(model: ModelProto, _: np.random.Generator) -> None:
        node = layers(model)[0]
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def nothing(_: ModelProto, __: np.random.Generator) -> None:
    """The graph stays as it is: what is wrong comes later, or nothing is."""


MUTATIONS: dict[str, Mutation] = {
    "nothing": nothing,
    "cut short": nothing,
    "flipped bytes": nothing,
    "NaN in a weight": filled(float("nan")),
    "infinity in a weight": filled(float("inf")),
    "huge value in a weight": filled(3e38),
    "weight of doubles": typed_weight(np.float64),
    "weight of halves": typed_weight(np.float16),
    "weight of integers": typed_weight(np.int32),
    "weight that does not fit": shaped_weight,
    "fixed batch": axes(2),
    "unknown batch": axes(""),
    "dynamic size": axes(None, None, "width"),
    "unknown channels": axes(None, ""),
    "axis of zero": axes(None, 0),
    "negative axis": axes(None, -3),
    "input without a shape": without_shape,
    "input of bytes": input_type(TensorProto.UINT8),
    "input of halves": input_type(TensorProto.FLOAT16),
    "input of doubles": input_type(TensorProto.DOUBLE),
    "input of int64": input_type(TensorProto.INT64),
    "input of strings": input_type(TensorProto.STRING),
    "input of an unknown type": input_type(99),
    "two inputs": second_input,
    "weights that are inputs": listed_weights,
    "unused input": unused_input,
    "unknown operator": behind("NoSuchOperator"),
    "custom domain": behind("Own", "my.operators"),
    "ONNX Runtime's domain": behind("Gelu", "com.microsoft"),
    "operator without TensorRT": behind("Det"),
    "plugin": behind("EfficientNMS_TRT"),
    "random numbers": behind("RandomNormalLike"),
    "integer product": behind("DynamicQuantizeLinear"),
    "opset 9": opset(9),
    "opset 12": opset(12),
    "opset 99": opset(99),
    "no opset": opset(0),
    "negative opset": opset(-1),
    "quantized": quantized,
    "undefined tensor": undefined,
    "tensor made twice": made_twice,
    "node named twice": named_twice,
    "unsorted": unsorted,
    "cycle": cyclic,
    "output that nothing makes": other_output,
    "no nodes": cleared("node"),
    "no weights": cleared("initializer"),
    "no outputs": cleared("output"),
    "no inputs": cleared("input"),
    "no name": cleared("name"),
    "huge weight": claimed(2**31, 2**31),
    "overflowing weight": claimed(2**62, 2**62, 2**62),
    "negative weight": claimed(-1, 8),
    "empty weight": claimed(0),
    "unknown data type": data_type(99),
    "undefined data type": data_type(0),
    "string weight": data_type(TensorProto.STRING),
    "bytes of another type": data_type(TensorProto.DOUBLE),
    "external file that is missing": external("missing.bin", 0),
    "external file outside": external("../../outside.bin", 0),
    "external offset beyond the file": external("model.onnx", 2**40),
    "external offset before the file": external("model.onnx", -8),
    "weight stored twice": stored_twice,
    "training mode": training,
    "baked batch": baked,
    "branches": chosen,
    "function of its own": local_function,
    "attribute that is unknown": attribute("no_such_attribute", 1),
    "attribute of another type": attribute("group", "two"),
    "group that does not divide": attribute("group", 7),
    "negative strides": attribute("strides", [-1, -1]),
}
