"""The file as a whole: whether it can be read, ONNX's own checker and shape inference, opset, and what is dynamic."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import onnx
from google.protobuf.message import DecodeError
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from enginewright.check_onnx.origin import Kind, Origin
from enginewright.check_onnx.reading import (
    STANDARD_DOMAINS,
    described,
    dtype,
    graphs,
    inner_graphs,
    inputs,
    shape,
    walk,
)
from enginewright.check_onnx.report import Finding, Severity
from enginewright.errors import ModelError
from enginewright.graph import stored

# TensorRT version -> the highest opset that its parser takes (docs/operators.md of onnx-tensorrt at each release).
LATEST_OPSET = {"8.6": 17, "10.0": 20, "10.9": 22, "10.13": 24, "11.0": 25}
FED = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")  # dtypes of inputs
CONVERT = "convert it with onnx.version_converter"
FIXED_BATCH = {
    Kind.export: "engines take that many samples at once, as axes.batch says",
    Kind.pytorch: "export with a dynamic first axis (dynamic_axes or dynamic_shapes of torch.onnx.export)",
    Kind.other: "make its first axis symbolic, and no size of a batch a constant (onnx.tools.update_model_dims)",
}
# What onnx raises on account of a file: damaged ones reach its own code in Python too.
FAULTS = (
    *(ValidationError, InferenceError, DecodeError, ModelError),
    *(ValueError, TypeError, RuntimeError, MemoryError, OverflowError),
)
EARLIEST_OPSET = 13  # QuantizeLinear has an axis, for weights per channel, from 13 on


def load(path: Path) -> onnx.ModelProto:
    """Read a model without its external data, its large weights left in the file (`enginewright.graph.stored`).

    Raises:
        ModelError: the file is missing, empty, cut short or no ONNX.
    """
    again = "export it again (`dvc repro -f export`)"
    try:
        model = stored.parsed(path)
    except FileNotFoundError:
        raise ModelError(f"{path.name} does not exist; {again}") from None
    except OSError as fault:
        raise ModelError(f"{path.name} cannot be read ({fault.strerror}); {again}") from None
    except DecodeError:
        raise ModelError(
            f"{path.name} is no ONNX file, or is cut short ({path.stat().st_size} bytes); {again}"
        ) from None
    if not model.ir_version or not model.HasField(
        "graph"
    ):  # text and empty files can pass for a protobuf message without a known field
        raise ModelError(f"{path.name} is no ONNX file ({path.stat().st_size} bytes hold no graph); {again}")
    return model


def opset_version(model: onnx.ModelProto) -> Optional[int]:
    """The version of the standard operators, None if the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), None)


def garbled(model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """Names that are no text: protobuf hands them over as bytes."""
    if not all(isinstance(word, str) for word in _words_of(model)):
        what = "the file holds names that are not UTF-8"
        yield Finding(Severity.fail, what, f"the file is damaged: {origin.again}")


def _words_of(model: onnx.ModelProto) -> Iterator[object]:
    """Every name that a report may show."""
    yield from (model.producer_name, model.producer_version, model.graph.name)
    for entry in model.opset_import:
        yield entry.domain
    for held in model.metadata_props:
        yield from (held.key, held.value)
    for graph in graphs(model.graph):
        yield from (tensor.name for tensor in graph.initializer)
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (axis.dim_param for axis in value.type.tensor_type.shape.dim)
        for node in graph.node:
            yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)


def named_twice(model: onnx.ModelProto) -> Iterator[Finding]:
    """Nodes that share a name: ONNX allows it, ONNX Runtime refuses it."""
    for graph in graphs(model.graph):
        counts = Counter(node.name for node in graph.node if node.name)
        for name in [name for name, count in counts.items() if count > 1]:
            what = f"{counts[name]} nodes have the name '{name}', which ONNX Runtime refuses"
            yield Finding(Severity.fail, what, "give each node a name of its own, or none", name)


def opset(model: onnx.ModelProto, configured: Optional[int], origin: Origin) -> Iterator[Finding]:
    """The opset against the configuration and against what TensorRT's versions parse."""
    version = opset_version(model)
    if version is None:
        yield Finding(
            Severity.fail, "the model imports no standard opset", f"{origin.again}, with an opset of 13 to 20"
        )
        return
    if configured is not None and version != configured:
        what = f"the model is of opset {version} and export.opset_version is {configured}"
        yield Finding(Severity.fail, what, "run `dvc repro export`, and keep other programs from rewriting the file")
    if version < EARLIEST_OPSET:
        what = f"opset {version} has no quantization per channel"
        yield Finding(
            Severity.fail, what, origin.says(f"export at {EARLIEST_OPSET} or later, or {CONVERT}", f"{CONVERT} to 17")
        )
    too_old = [release for release, latest in LATEST_OPSET.items() if latest < version]
    if len(too_old) == len(LATEST_OPSET):
        what = f"opset {version} is over what any TensorRT parses ({max(LATEST_OPSET.values())})"
        yield Finding(Severity.fail, what, f"{_lower(origin)}, which every supported TensorRT takes")
    elif too_old:
        later = next(release for release, latest in LATEST_OPSET.items() if latest >= version)
        what = f"opset {version} is over what TensorRT {too_old[-1]} parses ({LATEST_OPSET[too_old[-1]]})"
        yield Finding(Severity.warning, what, f"{_lower(origin)} if an engine is built with TensorRT before {later}")


def _lower(origin: Origin) -> str:
    """How to get opset 17."""
    if origin.kind is Kind.export:
        return "set export.opset_version to 17"
    return origin.says("export with opset_version=17", f"{CONVERT} to 17")


def checker(path: Path, model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """ONNX's own checker over the whole file. External files must exist."""
    unshaped = [
        value.name for value in model.graph.output if value.type.HasField("tensor_type") and shape(value) is None
    ]
    try:
        if not unshaped:
            onnx.checker.check_model(str(path), full_check=True)
        else:
            _check_shaped(path)
    except FAULTS as fault:
        what = f"onnx.checker refuses the model: {_words(fault, path)}"
        in_pytorch = (
            f"{origin.again}; if it says so again, the exporter has no form of that operation: replace it in `forward`"
        )
        yield Finding(
            Severity.fail, what, f"the program that wrote it is at fault: {origin.says(in_pytorch, origin.again)}"
        )
        return
    for name in unshaped:
        what = f"the output '{name}' states no shape, which ONNX asks for"
        yield Finding(
            Severity.warning,
            what,
            "parsers and sessions infer it; onnx.shape_inference.infer_shapes writes it into the file",
            name,
        )


def _check_shaped(path: Path) -> None:
    """Check a copy whose outputs state their shapes as far as they can be inferred: nothing else is to be refused on
    their account.
    """
    model = stored.read(path)
    with contextlib.suppress(*FAULTS):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    stored.check(model)


def infer_shapes(model: onnx.ModelProto, origin: Origin) -> tuple[onnx.ModelProto, list[Finding]]:
    """Strict shape inference with data propagation: the model with every shape that is known, and what is wrong with
    it.
    """
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True), []
    except FAULTS as fault:
        what = f"shapes contradict each other: {_words(fault)}"
        place = origin.says("graph.txt and in `forward`", "graph.txt")
        return model, [
            Finding(
                Severity.fail, what, f"the operation named there gets tensors that do not fit: look for it in {place}"
            )
        ]


def fed(model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """Tensors of numbers, their batch dynamic, and every other dynamic axis by a name, which `axes` gives a range."""
    values = inputs(model.graph)
    if not values:
        yield Finding(Severity.fail, "the model has no input", f"let it take what it computes from: {origin.again}")
    for value in values:
        yield from _input(value, origin)


def returned(model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """What the model answers: one output, or several for the task `outputs`, with the batch of the input. Shape
    inference must have succeeded.
    """
    if not model.graph.output:
        yield Finding(Severity.fail, "the model has no output", f"name what it should return: {origin.again}")
    elif len(model.graph.output) != 1:
        names = ", ".join(f"'{value.name}'" for value in model.graph.output) or "none"
        yield Finding(
            Severity.warning,
            f"the model has {len(model.graph.output)} outputs ({names})",
            "model.task=outputs judges all of them, any other task model.judged alone",
        )
    for name in _unmoved(model.graph):
        remedy = origin.says(
            "return what `forward` computes from its input", f"return what it computes from its input: {origin.again}"
        )
        yield Finding(Severity.fail, f"the output '{name}' does not depend on the input", remedy, name)
    if all((axes := shape(value)) and not isinstance(axes[0], int) for value in inputs(model.graph)):
        yield from _batch_of_outputs(model, origin)


def _unmoved(graph: onnx.GraphProto) -> list[str]:
    """Outputs that nothing leads to from an input. What reads an inner graph's tensors depends on all that the graph
    reads.
    """
    reached = {value.name for value in inputs(graph)}
    for node in graph.node:
        captured = {name for inner in inner_graphs(node) for each in walk(inner) for name in each.proto.input}
        if reached & (set(node.input) | captured):
            reached.update(node.output)
    return [output.name for output in graph.output if output.name not in reached] if reached else []


def _input(value: onnx.ValueInfoProto, origin: Origin) -> Iterator[Finding]:
    axes, what = shape(value), f"the input '{value.name}' {described(value)}"
    if not axes:
        remedy = origin.says("export with an example input", "give it one: a symbolic batch, then fixed axes")
        yield Finding(Severity.fail, f"{what} has no shape", remedy, value.name)
        return
    if any(axis == 0 for axis in axes[1:]):
        yield Finding(
            Severity.fail,
            f"{what} holds no value, as an axis is 0",
            f"give the axis its size: {origin.again}",
            value.name,
        )
    if isinstance(axes[0], int):
        severity = Severity.note if origin.kind is Kind.export else Severity.fail  # a file of which no other is left
        yield Finding(severity, f"{what} has a fixed batch of {axes[0]}", FIXED_BATCH[origin.kind], value.name)
    unnamed = [place for place, axis in enumerate(axes[1:], start=1) if not axis]
    if unnamed:
        remedy = f"name them, in model.inputs or where the file is made: {origin.again}"
        yield Finding(Severity.fail, f"{what} leaves the dynamic axes {unnamed} without a name", remedy, value.name)
    if dtype(value) not in FED:
        what = f"{what} is of a type that no engine takes"
        yield Finding(Severity.fail, what, f"choose one of {', '.join(FED)}: {origin.again}", value.name)


def _batch_of_outputs(model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """Outputs whose first axis is a number after inference, whatever the exporter declared: the batch of the example is
    baked in.
    """
    undeclared = onnx.ModelProto()
    undeclared.CopyFrom(model)
    for value in undeclared.graph.output:
        value.type.tensor_type.ClearField("shape")
    del undeclared.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(undeclared, data_prop=True)
    for value in inferred.graph.output:
        axes = shape(value)
        if axes and isinstance(axes[0], int):
            place = _first_fixed(inferred)
            what = (
                f"the output '{value.name}' has a fixed batch of {axes[0]} though the input's is dynamic: it is"
                " baked in" + (f" at {place}" if place else "")
            )
            in_pytorch = "replace sizes that `forward` computes as Python numbers by -1 or `x.flatten(1)`"
            elsewhere = "let the operation named there keep the batch: -1 or 0 in the shape of a Reshape"
            yield Finding(Severity.fail, what, origin.says(in_pytorch, elsewhere), value.name)


def _first_fixed(inferred: onnx.ModelProto) -> Optional[str]:
    """The first node that takes a dynamic first axis and gives a fixed one by a shape of its own."""
    known = {
        value.name: shape(value)
        for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    }

    def fixed(name: str) -> bool:
        axes = known.get(name)
        return axes is not None and len(axes) > 0 and isinstance(axes[0], int)

    for node in walk(inferred.graph):
        reshapes = node.proto.op_type in ("Reshape", "Expand", "Resize", "Slice", "Tile")
        if reshapes and not fixed(node.proto.input[0]) and fixed(node.proto.output[0]):
            return str(node)
    return None


def _words(fault: Exception, path: Optional[Path] = None) -> str:
    """The library's words in one line, without this machine's paths."""
    words = " ".join(str(fault).replace("==> Context:", "; context:").split())
    for place in (str(path), str(path.resolve()), str(path.parent.resolve())) if path else ():
        words = words.replace(place, Path(place).name)
    return words.rstrip(" .;")
