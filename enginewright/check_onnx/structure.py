"""The file as a whole: whether it can be read, ONNX's own checker and shape inference, opset, and what is dynamic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import onnx
from google.protobuf.message import DecodeError
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from enginewright.check_onnx.graph import STANDARD_DOMAINS, described, dtype, inputs, shape, walk
from enginewright.check_onnx.report import Finding, Severity
from enginewright.errors import ModelError

# TensorRT version -> the highest opset that its parser takes (docs/operators.md of onnx-tensorrt at each release).
LATEST_OPSET = {"8.6": 17, "10.0": 20, "10.9": 22, "10.13": 24, "11.0": 25}
EARLIEST_OPSET = 13  # QuantizeLinear has an axis, for weights per channel, from 13 on


def load(path: Path) -> onnx.ModelProto:
    """Read a model without its external data.

    Raises:
        ModelError: the file is missing, empty, cut short or no ONNX.
    """
    again = "export it again (`dvc repro -f export`)"
    try:
        model = onnx.load_model(path, load_external_data=False)
    except FileNotFoundError:
        raise ModelError(f"{path.name} does not exist; {again}") from None
    except DecodeError:
        raise ModelError(f"{path.name} is no ONNX file, or is cut short ({path.stat().st_size} bytes); {again}") from None
    if not model.ir_version or not model.HasField("graph"):  # text and empty files can pass for a protobuf message without a known field
        raise ModelError(f"{path.name} is no ONNX file ({path.stat().st_size} bytes hold no graph); {again}")
    return model


def opset_version(model: onnx.ModelProto) -> Optional[int]:
    """The version of the standard operators, None if the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), None)


def opset(model: onnx.ModelProto, configured: Optional[int]) -> Iterator[Finding]:
    """The opset against the configuration and against what TensorRT's versions parse."""
    version = opset_version(model)
    if version is None:
        yield Finding(Severity.fail, "the model imports no standard opset", "export it again with an opset of 13 to 20")
        return
    if configured is not None and version != configured:
        what = f"the model is of opset {version} and export.opset_version is {configured}"
        yield Finding(Severity.fail, what, "run `dvc repro export`, and keep other programs from rewriting the file")
    if version < EARLIEST_OPSET:
        what = f"opset {version} has no quantization per channel"
        yield Finding(Severity.fail, what, f"export at {EARLIEST_OPSET} or later, or convert with onnx.version_converter")
    too_old = [release for release, latest in LATEST_OPSET.items() if latest < version]
    if len(too_old) == len(LATEST_OPSET):
        what = f"opset {version} is over what any TensorRT parses ({max(LATEST_OPSET.values())})"
        yield Finding(Severity.fail, what, "set export.opset_version to 17, which every supported TensorRT takes")
    elif too_old:
        later = next(release for release, latest in LATEST_OPSET.items() if latest >= version)
        what = f"opset {version} is over what TensorRT {too_old[-1]} parses ({LATEST_OPSET[too_old[-1]]})"
        yield Finding(Severity.warning, what, f"set export.opset_version to 17 if an engine is built with TensorRT before {later}")


def checker(path: Path) -> Iterator[Finding]:
    """ONNX's own checker over the whole file. External files must exist."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (ValidationError, InferenceError) as fault:
        yield Finding(Severity.fail, f"onnx.checker refuses the model: {_words(fault, path)}", "the program that wrote it is at fault: export it again")


def infer_shapes(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Finding]]:
    """Strict shape inference with data propagation: the model with every shape that is known, and what is wrong with it."""
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True), []
    except InferenceError as fault:
        what = f"shapes contradict each other: {_words(fault)}"
        return model, [Finding(Severity.fail, what, "the operation named there gets tensors that do not fit: look for it in graph.txt and in `forward`")]


def fed(model: onnx.ModelProto) -> Iterator[Finding]:
    """One input, float32, its batch dynamic and nothing else."""
    values = inputs(model.graph)
    if len(values) != 1:
        names = ", ".join(f"'{value.name}'" for value in values) or "none"
        what = f"the model has {len(values)} inputs ({names}) and the pipeline feeds one"
        yield Finding(Severity.fail, what, "wrap the model so that it takes one tensor of images")
    for value in values:
        yield from _input(value)


def returned(model: onnx.ModelProto) -> Iterator[Finding]:
    """One output, with the batch of the input. Shape inference must have succeeded."""
    if len(model.graph.output) != 1:
        names = ", ".join(f"'{value.name}'" for value in model.graph.output) or "none"
        yield Finding(Severity.warning, f"the model has {len(model.graph.output)} outputs ({names})", "only model.output_name is measured")
    if all((axes := shape(value)) and not isinstance(axes[0], int) for value in inputs(model.graph)):
        yield from _batch_of_outputs(model)


def _input(value: onnx.ValueInfoProto) -> Iterator[Finding]:
    axes, what = shape(value), f"the input '{value.name}' {described(value)}"
    if not axes:
        yield Finding(Severity.fail, f"{what} has no shape", "export with an example input", value.name)
        return
    if isinstance(axes[0], int):
        yield Finding(Severity.fail, f"{what} has a fixed batch of {axes[0]}", "export with a dynamic first axis (`dvc repro -f export` does)", value.name)
    moving = [index for index, axis in enumerate(axes[1:], start=1) if not isinstance(axis, int)]
    if moving:
        remedy = "fix every axis but the batch: an optimization profile here spans batch sizes"
        yield Finding(Severity.fail, f"{what} is dynamic on axes {moving}", remedy, value.name)
    if dtype(value) != "float32":
        yield Finding(Severity.warning, f"{what} is not float32", "the pipeline feeds float32 images", value.name)


def _batch_of_outputs(model: onnx.ModelProto) -> Iterator[Finding]:
    """Outputs whose first axis is a number after inference, whatever the exporter declared: the batch of the example is baked in."""
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
            what = f"the output '{value.name}' has a fixed batch of {axes[0]} though the input's is dynamic: it is baked in" + (f" at {place}" if place else "")
            yield Finding(Severity.fail, what, "replace sizes that `forward` computes as Python numbers by -1 or `x.flatten(1)`", value.name)


def _first_fixed(inferred: onnx.ModelProto) -> Optional[str]:
    """The first node that takes a dynamic first axis and gives a fixed one by a shape of its own."""
    known = {value.name: shape(value) for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]}

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
