"""Shapes of a model's tensors, and shape arithmetic folded as far as it depends on fixed axes alone.

PyTorch writes the scale of an attention as Shape -> Slice -> Cast -> Sqrt -> Div: floating point made of an axis that
never changes. ONNX Runtime's optimizer folds a Shape only where every axis is fixed, so a dynamic batch keeps all of
it, and TensorRT 8.6 then ran 0 of ViT-B/16's 74 layers in implicit INT8 (docs/decisions/0020-precision-mode.md). Here
single elements of a shape count as known. Needs onnx and NumPy, so it runs on a target too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from enginewright.graph import stored
from enginewright.graph.index import Graph
from enginewright.graph.names import Names

Shape = tuple[Optional[int], ...]  # None: dynamic, or not inferred

# They move elements and compute nothing: what is known of the elements moves with them. All inputs of Concat are
# data, of the others the first.
MOVING = (
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Cast",
)
ELEMENTWISE = (
    *(
        "Abs",
        "Add",
        "And",
        "Ceil",
        "Div",
        "Equal",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mod",
    ),
    *("Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Round", "Sign", "Sqrt", "Sub", "Where"),
)
REDUCING = ("Clip", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
GROWING = ("ConstantOfShape", "Expand", "Range")  # a small input may become a large output
LARGEST = 1 << 12  # elements of a folded tensor; shapes have a handful, positions some hundreds
ROUNDS = 20


@dataclass(frozen=True)
class _Value:
    """A tensor of which some elements are known. `known` is 1 or 0 for each."""

    elements: npt.NDArray[Any]
    known: npt.NDArray[np.int64]  # where it is 0, the element is 1
    from_shapes: bool  # else a constant of the model's own

    @property
    def whole(self) -> bool:
        return bool(self.known.all())


def fold_static_shapes(model: ModelProto) -> ModelProto:
    """Return a copy in which shape arithmetic over fixed axes is a constant; a Reshape with one dynamic axis gets a
    constant -1 for it.

    Names of all other nodes and tensors stay, and the numbers are those that the removed nodes would have computed.
    """
    result = ModelProto()
    result.CopyFrom(model)
    small = _without_large_weights(model)
    before = {tensor.name for tensor in small.graph.initializer}
    if not _fold_all(small):
        return result
    del result.graph.node[:]
    result.graph.node.extend(small.graph.node)
    read = _read(result)
    kept = [tensor for tensor in result.graph.initializer if tensor.name in read]
    added = [tensor for tensor in small.graph.initializer if tensor.name not in before and tensor.name in read]
    del result.graph.initializer[:]
    result.graph.initializer.extend([*kept, *added])
    return result


def tensor_shapes(model: ModelProto, batch: Optional[int] = None) -> dict[str, Shape]:
    """The shapes of all tensors that can be inferred, inputs and weights included.

    With `batch` in place of a dynamic first axis of every input.
    """
    small = _without_large_weights(model)
    if batch is not None:
        for value in small.graph.input:
            axes = value.type.tensor_type.shape.dim
            if axes and not axes[0].dim_value:
                axes[0].dim_value = batch
        del small.graph.value_info[:]  # of the dynamic batch
    _fold_all(small)
    return _shapes(_infer(small))


def _fold_all(model: ModelProto) -> bool:
    """Fold in place until nothing is left to fold: a folded Reshape lets inference see further.

    Returns whether anything was.
    """
    folded = False
    for _ in range(ROUNDS):
        values = _values(model)
        if _fold(model, values):
            folded = True
        elif not _learn(model, values):
            break
    return folded


def _learn(model: ModelProto, values: Mapping[str, _Value]) -> bool:
    """Note the fixed axes of what Reshape, Expand and Tile make where inference takes all of them for dynamic. Returns
    whether that is news.
    """
    graph, found, learned = model.graph, _infer(model), dict[str, ValueInfoProto]()
    inferred, shapes = {value.name: value for value in found.value_info}, _shapes(found)
    for node in graph.node:
        result = inferred.get(node.output[0]) if node.op_type in ("Reshape", "Expand", "Tile") else None
        target = values.get(node.input[1]) if result is not None else None
        if result is None or target is None or not target.from_shapes or target.elements.ndim != 1:
            continue
        sizes = [int(size) if known else None for size, known in zip(target.elements, target.known)]
        axes = _made_axes(node.op_type, sizes, shapes.get(node.input[0]))
        if sum(axis is not None for axis in axes) > _fixed_axes(result):
            kind = result.type.tensor_type.elem_type
            learned[result.name] = helper.make_tensor_value_info(result.name, kind, axes)
    if learned:
        kept = [value for value in graph.value_info if value.name not in learned]
        del graph.value_info[:]
        graph.value_info.extend([*kept, *learned.values()])
    return bool(learned)


def _made_axes(operator: str, sizes: Sequence[Optional[int]], source: Optional[Shape]) -> list[Optional[int]]:
    """What is known of the axes that Reshape, Expand or Tile makes of a tensor of shape `source`, given what is known
    of its second input.
    """
    if operator == "Reshape":
        return [size if size is not None and size > 0 else None for size in sizes]
    if source is None or len(source) > len(sizes):
        return [None] * len(sizes)
    before = [*[1] * (len(sizes) - len(source)), *source]
    if operator == "Tile":
        return [None if size is None or axis is None else size * axis for size, axis in zip(sizes, before)]
    return [
        axis if size == 1 else size for size, axis in zip(sizes, before)
    ]  # Expand: an axis of 1 takes the other's size


def _fixed_axes(value: ValueInfoProto) -> int:
    return sum(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)


def _fold(model: ModelProto, values: Mapping[str, _Value]) -> bool:
    """Make constants of what is known as a whole, and remove what is then read by nobody.

    Returns whether anything changed.
    """
    graph, folded, nodes = model.graph, False, []
    results = {value.name for value in graph.output}
    names = Names(model)
    for node in graph.node:
        _drop_empty(node, values)
        outputs = [values.get(name) for name in node.output if name]
        if all(value is not None and value.from_shapes and value.whole for value in outputs) and results.isdisjoint(
            node.output
        ):
            graph.initializer.extend(
                numpy_helper.from_array(value.elements, name)
                for name, value in zip(filter(None, node.output), outputs)
                if value
            )
            folded = True
            continue
        target = values.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if (
            target is not None
            and target.from_shapes
            and int(target.known.sum()) == target.known.size - 1
            and (target.elements[target.known == 1] > 0).all()
        ):
            name = names.unique(f"{node.output[0]}_shape")
            sizes = np.where(target.known == 1, target.elements, -1).astype(np.int64)
            graph.initializer.append(numpy_helper.from_array(sizes, name))
            node.input[1] = name
            folded = True
        nodes.append(node)
    if folded:
        kept = _without_unread([NodeProto.FromString(node.SerializeToString()) for node in nodes], results, model)
        del graph.node[:]
        graph.node.extend(kept)
    return folded


def _drop_empty(node: NodeProto, values: Mapping[str, _Value]) -> None:
    """Leave shapes without an axis out of a Concat.

    As constants they would be tensors without values, which TensorRT's parsers warn of.
    """
    empty = [
        name
        for name in node.input
        if name in values and values[name].from_shapes and values[name].elements.shape == (0,)
    ]
    if node.op_type == "Concat" and 0 < len(empty) < len(node.input):
        kept = [name for name in node.input if name not in empty]
        del node.input[:]
        node.input.extend(kept)


def _without_unread(nodes: Sequence[NodeProto], results: Iterable[str], model: ModelProto) -> list[NodeProto]:
    """The nodes less those of shape arithmetic that nothing reads any more."""
    read = set(results) | Graph(model.graph).captured
    kept = []
    for node in reversed(nodes):
        if node.op_type in ("Shape", *MOVING, *ELEMENTWISE, *REDUCING) and read.isdisjoint(node.output):
            continue
        read.update(node.input)
        kept.append(node)
    return kept[::-1]


def _read(model: ModelProto) -> set[str]:
    """Every tensor that a node, an inner graph or the caller reads."""
    return (
        {name for node in model.graph.node for name in node.input}
        | {value.name for value in model.graph.output}
        | Graph(model.graph).captured
    )


def _without_large_weights(model: ModelProto) -> ModelProto:
    """A copy whose large weights are inputs of the same shape.

    Inference needs no numbers of them, and copies the whole model.
    """
    small = ModelProto()
    small.CopyFrom(model)
    large = [tensor for tensor in small.graph.initializer if np.prod(tensor.dims, dtype=np.int64) > LARGEST]
    kept = [tensor for tensor in small.graph.initializer if np.prod(tensor.dims, dtype=np.int64) <= LARGEST]
    inputs = {value.name for value in small.graph.input}
    small.graph.input.extend(
        helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in large if one.name not in inputs
    )
    del small.graph.initializer[:]
    small.graph.initializer.extend(kept)
    return small


def _infer(model: ModelProto) -> GraphProto:
    try:
        return shape_inference.infer_shapes(_without_large_weights(model), data_prop=True).graph
    except (shape_inference.InferenceError, RuntimeError):  # contradictory shapes: check_onnx reports them
        return model.graph


def _shapes(found: GraphProto) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
    for value in (*found.input, *found.value_info, *found.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(
                axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim
            )
    return shapes


def _values(model: ModelProto) -> dict[str, _Value]:
    """What is known of small tensors: constants, and what is made of shapes."""
    shapes, graph = _shapes(_infer(model)), model.graph
    overridable = {value.name for value in graph.input}
    values = {
        tensor.name: _constant(tensor)
        for tensor in graph.initializer
        if tensor.name not in overridable and _is_small(tensor.dims)
    }
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if (
            node.op_type == "Constant"
            and node.attribute
            and node.attribute[0].name == "value"
            and _is_small(node.attribute[0].t.dims)
        ):
            values[node.output[0]] = _constant(node.attribute[0].t)
        elif node.op_type == "Shape" and node.input[0] in shapes:
            values[node.output[0]] = _shape(node, shapes[node.input[0]])
        else:
            values.update(_computed(node, values, model))
    return values


def _is_small(dims: Sequence[int]) -> bool:
    return bool(np.prod(dims, dtype=np.int64) <= LARGEST)


def _constant(tensor: TensorProto) -> _Value:
    elements = stored.array(tensor)
    return _Value(elements, np.ones(elements.shape, np.int64), from_shapes=False)


def _shape(node: NodeProto, shape: Shape) -> _Value:
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    part = shape[ends.get("start", 0) : ends.get("end", len(shape))]
    return _Value(
        np.array([1 if axis is None else axis for axis in part], np.int64),
        np.array([axis is not None for axis in part], np.int64),
        from_shapes=True,
    )


def _computed(node: NodeProto, values: Mapping[str, _Value], model: ModelProto) -> dict[str, _Value]:
    """The outputs of a node, if enough is known of its inputs and one of them is made of shapes; else nothing."""
    inputs = [values.get(tensor) for tensor in node.input if tensor]
    known = [value for value in inputs if value is not None]
    if len(known) < len(inputs) or not any(value.from_shapes for value in known):
        return {}
    if node.op_type in MOVING:
        data = len(known) if node.op_type == "Concat" else 1
        if all(value.whole for value in known[data:]):
            elements = _run(node, [value.elements for value in known], model)
            masks = _run(
                node, [value.known if index < data else value.elements for index, value in enumerate(known)], model
            )
            return {
                name: _Value(one, mask.astype(np.int64), True) for name, one, mask in zip(node.output, elements, masks)
            }
    elif node.op_type in ELEMENTWISE:
        results = _run(node, [value.elements for value in known], model)
        mask = np.prod(np.stack(np.broadcast_arrays(*(value.known for value in known))), axis=0)
        return {name: _Value(one, mask, True) for name, one in zip(node.output, results)}
    elif all(value.whole for value in known) and (
        node.op_type in REDUCING or (node.op_type in GROWING and _stays_small(node, known))
    ):
        results = _run(node, [value.elements for value in known], model)
        return {name: _Value(one, np.ones(one.shape, np.int64), True) for name, one in zip(node.output, results)}
    return {}


def _stays_small(node: NodeProto, inputs: Sequence[_Value]) -> bool:
    if node.op_type == "Range":
        start, limit, delta = (float(value.elements) for value in inputs)
        return bool(delta) and (limit - start) / delta <= LARGEST
    sizes = inputs[-1].elements.astype(np.float64)
    return bool(np.prod(sizes) * (inputs[0].elements.size if node.op_type == "Expand" else 1) <= LARGEST)


def _run(node: NodeProto, inputs: Sequence[npt.NDArray[Any]], model: ModelProto) -> list[npt.NDArray[Any]]:
    """Compute one node by ONNX's reference implementation; nothing if it cannot."""
    names = [tensor for tensor in node.input if tensor]
    types = [helper.np_dtype_to_tensor_dtype(array.dtype) for array in inputs]
    signature = [
        helper.make_tensor_value_info(name, kind, array.shape) for name, kind, array in zip(names, types, inputs)
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one_node", list({value.name: value for value in signature}.values()), outputs)
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(single).run(None, dict(zip(names, inputs)))
    except Exception:  # noqa: BLE001 - whatever the reference cannot compute stays in the graph
        return []
    return [np.asarray(array) for array in found] if all(np.size(array) <= LARGEST for array in found) else []
