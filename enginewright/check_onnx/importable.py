"""What `model.source: onnx` can make of a file that this pipeline did not export, and the lines that it needs.

A finding here says `warning` where a line of configuration mends it, `note` where the import does so by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from enginewright.check_onnx.origin import PAIR, Origin
from enginewright.check_onnx.reading import Axis, described, dtype, inputs, shape, walk, weights
from enginewright.check_onnx.report import Finding, Severity
from enginewright.check_onnx.structure import EARLIEST_OPSET, FED, LATEST_OPSET, opset_version
from enginewright.config import Export
from enginewright.errors import ModelError
from enginewright.graph import stored
from enginewright.graph.axes import is_unnamed, naming_line, usual_names
from enginewright.graph.ends import unusable
from enginewright.graph.external import bytes_of, external_faults, external_tensors
from enginewright.graph.foreign import ONE_FILE_LIMIT
from enginewright.graph.opset import HIGHEST, LOWEST, at_opset, opset_of
from enginewright.graph.unquantized import BRING_FLOAT, integer_operators, integers_said

HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def external(path: Path, model: onnx.ModelProto) -> Iterator[Finding]:
    """Weights in other files: whether they can be read, and that together they are not too large."""
    outside = external_tensors(model)
    if not outside:
        return
    faults = list(external_faults(path, model))
    for fault in faults:
        yield Finding(Severity.fail, fault.what, fault.remedy, fault.tensor)
    size = sum(bytes_of(tensor) for tensor in weights(model.graph))
    if size > ONE_FILE_LIMIT:
        what = (
            f"the weights hold {size / 2**30:.1f} GiB, and the pipeline keeps a model in one ONNX file, which takes"
            " 2 GiB at most"
        )
        yield Finding(Severity.fail, what, "use a smaller model, or one part of it at a time")
    elif not faults:
        names = sorted({entry.value for each in outside for entry in each.external_data if entry.key == "location"})
        what = f"{_weights(outside)} outside of the file, in {', '.join(names)}"
        yield Finding(Severity.note, what, "keep them beside it: model.source: onnx stores all of them in one file")


def opset(model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """Whether the opset can be brought to the configured one."""
    version = opset_version(model)
    if version is None:
        yield Finding(Severity.fail, "the model imports no standard opset", origin.again)
    elif version > max(LATEST_OPSET.values()):
        what = f"opset {version} is over what any TensorRT parses ({max(LATEST_OPSET.values())})"
        yield Finding(Severity.fail, what, f"{origin.again}, at an opset of 13 to 20")
    elif version < EARLIEST_OPSET:
        what = f"opset {version} has no quantization per channel"
        yield Finding(Severity.note, what, "model.source: onnx converts it to export.opset_version")


def fed(model: onnx.ModelProto, origin: Origin, called: str) -> Iterator[Finding]:
    """What is fed: tensors of numbers, whose dynamic axes have names and ranges."""
    values = inputs(model.graph)
    if not values:
        yield Finding(Severity.fail, "the model has no input", "nothing can be fed to it: give another file")
    faults = list(unusable(model, called))
    yield from (Finding(Severity.fail, *fault) for fault in faults)
    faulty = {fault.name for fault in faults}
    for value in values:
        kind, axes, what = dtype(value), shape(value), f"the input '{value.name}' {described(value)}"
        if value.name in faulty:
            continue
        if kind not in FED:
            yield Finding(Severity.fail, f"{what} is of a type that no engine takes", origin.again, value.name)
        elif axes:
            yield from _axes(value, [None if is_unnamed(axis) else axis for axis in axes], what, origin)


def _axes(value: onnx.ValueInfoProto, axes: list[Axis], what: str, origin: Origin) -> Iterator[Finding]:
    named = usual_names(axes)
    if any(axis == 0 for axis in axes[1:]):
        remedy = f"give the axis its size: {origin.again}"
        yield Finding(Severity.fail, f"{what} holds no value, as an axis is 0", remedy, value.name)
    elif axes and isinstance(axes[0], int) and axes[0] > 1:
        remedy = f"only a batch of 1 can be freed: {origin.again}, with a batch of 1 or a dynamic one"
        yield Finding(Severity.warning, f"{what} has a fixed batch of {axes[0]}", remedy, value.name)
    elif axes and isinstance(axes[0], int):
        remedy = (
            f"free it, where the graph allows, with {naming_line(value.name, {0: 'batch'})}, or keep engines of batch 1"
        )
        yield Finding(Severity.warning, f"{what} has a fixed batch of 1", remedy, value.name)
    if unnamed := {place: named[place] for place, axis in enumerate(axes) if axis is None}:
        places = ", ".join(map(str, unnamed))
        yield Finding(
            Severity.warning,
            f"{what} leaves the dynamic axes {places} unnamed",
            f"name them: {naming_line(value.name, unnamed)}",
            value.name,
        )
    moving = [named[place] for place, axis in enumerate(axes) if place and not isinstance(axis, int)]
    if moving:
        ranges = ", ".join(f"{name}: {{min: ..., opt: ..., max: ...}}" for name in dict.fromkeys(moving))
        what = f"{what} is dynamic beyond its batch"
        yield Finding(Severity.warning, what, f"give each such axis its range: axes: {{{ranges}}}", value.name)


def quantized(model: onnx.ModelProto, called: str) -> Iterator[Finding]:
    """What a quantizer left in the file."""
    nodes = [node for node in walk(model.graph) if node.proto.op_type in PAIR]
    if operators := integer_operators(model):
        yield Finding(Severity.fail, integers_said(called, operators), BRING_FLOAT)
    elif nodes:
        what = f"the model carries {len(nodes)} Q/DQ nodes already, the first is {nodes[0]}"
        remedy = "model.source: onnx takes them out and calibrates again; the float model has the better weights"
        yield Finding(Severity.warning, what, remedy, nodes[0].name)


def converted(path: Path) -> Iterator[Finding]:
    """Whether ONNX's converter brings a valid file to the opset that the pipeline exports at."""
    model, wanted = stored.read(path), Export().opset_version
    own = opset_of(model)
    if any(node.op_type in PAIR for node in model.graph.node):
        return  # they are taken out first
    try:
        at_opset(model, wanted, path.name)
    except ModelError as fault:
        what, _, remedy = str(fault).partition("; ")
        severity = Severity.warning if LOWEST <= own <= HIGHEST else Severity.fail
        yield Finding(severity, what, remedy)


def halves(model: onnx.ModelProto) -> Iterator[Finding]:
    """Weights in half precision."""
    half = [tensor for tensor in weights(model.graph) if tensor.data_type in HALVES]
    if half:
        kinds = " and ".join(sorted({onnx.TensorProto.DataType.Name(tensor.data_type).lower() for tensor in half}))
        what = f"{_weights(half, 'are')} {kinds}"
        yield Finding(Severity.note, what, "model.source: onnx makes them float32, and FP16 and INT8 are built of that")


def _weights(some: Sequence[onnx.TensorProto], verb: str = "lie") -> str:
    """`1 weight, 'w', lies`; `12 weights, the first 'w', lie`."""
    first = some[0].name
    if len(some) > 1:
        return f"{len(some)} weights, the first '{first}', {verb}"
    return f"the weight '{first}' {'is' if verb == 'are' else verb + 's'}"
