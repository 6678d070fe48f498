"""Reading an ONNX file, walking its nodes, and printing it as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import onnx

if TYPE_CHECKING:
    import pandas as pd

STANDARD_DOMAINS = ("", "ai.onnx")

Axis = Union[int, str, None]  # fixed, symbolic, unknown


@dataclass(frozen=True)
class Node:
    """A node with a name that a user can find it by: its own, or its place in the graph (`#3`), inside the names of the
    nodes around it.
    """

    name: str
    proto: onnx.NodeProto

    @property
    def operator(self) -> str:
        """`Conv`, or `my.domain.MyOp`."""
        domain = self.proto.domain
        return self.proto.op_type if domain in STANDARD_DOMAINS else f"{domain}.{self.proto.op_type}"

    def __str__(self) -> str:
        return f"node '{self.name}' ({self.operator})"


def walk(graph: onnx.GraphProto, around: str = "") -> Iterator[Node]:
    """Every node of a graph and of the graphs inside its If, Loop and Scan, in stored order."""
    for index, proto in enumerate(graph.node):
        node = Node(around + (proto.name or f"#{index}"), proto)
        yield node
        for attribute in proto.attribute:
            for inner in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
                yield from walk(inner, f"{node.name}/{attribute.name}/")


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its nodes, however deep."""
    yield graph
    for proto in graph.node:
        for inner in inner_graphs(proto):
            yield from graphs(inner)


def inner_graphs(proto: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node's attributes hold, without those inside them."""
    for attribute in proto.attribute:
        yield from [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs


def weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers, and the values of Constant nodes under the name of their output, of inner
    graphs too.
    """
    yield from graph.initializer
    for proto in graph.node:
        for attribute in proto.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(attribute.t)
                tensor.name = proto.output[0] if proto.output else tensor.name
                yield tensor
            elif proto.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = [attribute.f] if attribute.name == "value_float" else list(attribute.floats)
                yield onnx.numpy_helper.from_array(np.array(values, np.float32), proto.output[0])
        for inner in inner_graphs(proto):
            yield from weights(inner)


def inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """What must be fed: inputs that are not initializers (IR version 3 lists those too)."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def shape(value: onnx.ValueInfoProto) -> Optional[list[Axis]]:
    """Axes of a tensor: an int, the name of a symbolic one, None for an unknown one; None if not even the rank is
    known.
    """
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in tensor.shape.dim]


def dtype(value: onnx.ValueInfoProto) -> str:
    """`float32`; `?` if it is not known, `sequence` and the like for what is no tensor."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return kind.replace("_type", "") if kind else "?"
    return dtype_name(value.type.tensor_type.elem_type)


def dtype_name(elem_type: int) -> str:
    """NumPy's name of a TensorProto.DataType."""
    if elem_type not in onnx.TensorProto.DataType.values() or elem_type == onnx.TensorProto.UNDEFINED:
        return "?"
    return (
        "string"
        if elem_type == onnx.TensorProto.STRING
        else str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)))
    )


def described(value: onnx.ValueInfoProto) -> str:
    """`float32 [batch, 1, 28, 28]`."""
    return f"{dtype(value)} {_axes(shape(value))}"


def tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """Name, dtype and shape; an axis is a number, a name, or None where the file does not say."""
    return {"name": value.name, "dtype": dtype(value), "shape": shape(value)}


def _axes(axes: Optional[list[Axis]]) -> str:
    return "?" if axes is None else "[" + ", ".join("?" if axis is None else str(axis) for axis in axes) + "]"


def parameters(graph: onnx.GraphProto) -> int:
    """Number of stored values."""
    return sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in weights(graph))


def inventory(graph: onnx.GraphProto) -> dict[str, int]:
    """Operator -> number of nodes, the most frequent first, then by name."""
    counts = Counter(node.operator for node in walk(graph))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def printable(inferred: onnx.ModelProto) -> str:
    """Interface, operators and nodes with their outputs' dtypes and shapes, as tables of a model after shape
    inference.
    """
    import pandas as pd

    graph = inferred.graph
    known = {value.name: value for value in [*graph.input, *graph.value_info, *graph.output]}
    sizes = {tensor.name: int(np.prod(tensor.dims, dtype=np.int64)) for tensor in graph.initializer}
    rows = [
        {
            "node": node.name,
            "operator": node.operator,
            "output": name,
            "dtype": dtype(known[name]) if name in known else "?",
            "shape": _axes(shape(known[name])) if name in known else "?",
            "parameters": sum(sizes.get(source, 0) for source in node.proto.input),
        }
        for node in walk(graph)
        for name in node.proto.output
        if name
    ]
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in inferred.opset_import)
    interface = [
        f"{kind}  {value.name}  {described(value)}"
        for kind, values in (("input ", inputs(graph)), ("output", graph.output))
        for value in values
    ]
    counts = pd.DataFrame(list(inventory(graph).items()), columns=["operator", "nodes"])
    tables = [
        _table(counts),
        _table(pd.DataFrame(rows, columns=["node", "operator", "output", "dtype", "shape", "parameters"])),
    ]
    return "\n".join([f"opset   {opsets}", *interface]) + "\n\n" + "\n\n".join(tables) + "\n"


def _table(frame: pd.DataFrame) -> str:
    """Words to the left, numbers to the right."""
    import pandas as pd

    formatters = {}
    for name in frame.columns:
        width = max([len(name), *frame[name].map(lambda value: len(f"{value:,}" if isinstance(value, int) else value))])
        formatters[name] = (
            f"{{:>{width},}}".format if pd.api.types.is_numeric_dtype(frame[name]) else f"{{:<{width}}}".format
        )
    return str(frame.to_string(index=False, formatters=formatters, justify="left")) if len(frame) else "no nodes"
