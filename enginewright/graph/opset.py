"""A model brought to another opset by ONNX's own version converter."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, checker, defs, helper, shape_inference, version_converter

from enginewright.errors import ModelError
from enginewright.graph import stored
from enginewright.graph.constants import STANDARD_DOMAINS
from enginewright.graph.cut import drop_dead
from enginewright.graph.index import without_weights
from enginewright.graph.names import inner_graphs

LOWEST, HIGHEST = 13, 20  # export.opset_version


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model uses; 0 if it imports none."""
    return max((int(entry.version) for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)


def at_opset(model: ModelProto, version: int, called: str) -> ModelProto:
    """Return a model at an opset. Weights among its inputs (IR version 3) are no inputs any more.

    Args:
        model: with its weights; it may be edited.
        version: wanted.
        called: the model's file, for sentences.

    Raises:
        ModelError: the converter has no way for an operator.
    """
    drop_dead(model)
    own = opset_of(model)
    if own != version:
        try:
            model = _converted(model, version)
        except (RuntimeError, ValueError, version_converter.ConvertError) as fault:
            if own < version or not _is_valid_at(model, version):
                raise ModelError(_refusal(model, own, version, called, str(fault))) from None
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    return model


def _converted(model: ModelProto, version: int) -> ModelProto:
    """The converter reads shapes and axes and copies what it reads twice: it gets no large weight."""
    kept = {tensor.name: tensor for tensor in model.graph.initializer}
    bare = without_weights(model.graph, model.opset_import)
    bare.ir_version = max(model.ir_version, 4)  # before that, the converter looks for weights among the inputs
    converted = version_converter.convert_version(bare, version)
    _drop_newer_attributes(converted, version)
    for tensor in converted.graph.initializer:
        if tensor.name in kept:
            tensor.CopyFrom(kept[tensor.name])
    for field in ("producer_name", "producer_version"):
        setattr(converted, field, getattr(model, field))
    converted.metadata_props.extend(model.metadata_props)
    return converted


def _drop_newer_attributes(model: ModelProto, version: int) -> None:
    """Drop attributes that an older opset does not have and that hold their default: the converter leaves them."""
    for node in _nodes(model.graph):
        if node.domain not in STANDARD_DOMAINS or not defs.has(node.op_type, version):
            continue
        known, newest = defs.get_schema(node.op_type, version).attributes, defs.get_schema(node.op_type).attributes
        for attribute in list(node.attribute):
            if attribute.name not in known and newest[attribute.name].default_value == attribute:
                node.attribute.remove(attribute)


def _is_valid_at(model: ModelProto, version: int) -> bool:
    """Whether each node of a model is written as a lower opset writes it; if so it imports that, in place.

    The converter has no way down for Relu, Pad and others that only took on more types. Where an operator means
    something else at another version, the comparison with the file shows it.
    """
    before = [helper.make_opsetid(entry.domain, entry.version) for entry in model.opset_import]
    for entry in model.opset_import:
        if entry.domain in STANDARD_DOMAINS:
            entry.version = version
    try:
        stored.check(model)
    except (checker.ValidationError, shape_inference.InferenceError, RuntimeError, ValueError):
        del model.opset_import[:]
        model.opset_import.extend(before)
        return False
    return True


def _refusal(model: ModelProto, own: int, version: int, called: str, said: str) -> str:
    reason = said.rpartition("failed: ")[2]  # without the place in its source, which holds names too
    operators = sorted({node.op_type for node in _nodes(model.graph)}, key=len, reverse=True)
    blamed = next((name for name in operators if re.search(rf"\b{re.escape(name)}(?![A-Za-z])", reason)), None)
    which = f"the operator {blamed}" if blamed else "an operator"
    keep = f"set export.opset_version to {own}, which the file has, or " if LOWEST <= own <= HIGHEST else ""
    words = " ".join(reason.split())
    return (
        f"ONNX's version converter cannot bring {called} from opset {own} to {version}, because of {which}"
        f" ({words[:200].rstrip(' .;:')}); {keep}export the model again at opset {version}"
    )


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from _nodes(inner)
