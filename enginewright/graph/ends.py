"""Inputs and outputs that the pipeline cannot feed or judge: no tensors of numbers with a row for each sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from onnx import ModelProto, TensorProto, ValueInfoProto


class Unusable(NamedTuple):
    """What is wrong with an input or output, and what to do."""

    what: str
    remedy: str
    name: str


def unusable(model: ModelProto, called: str) -> Iterator[Unusable]:
    """Every such input and output of a model; `called` is its file, for sentences."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in weights:
            continue
        named = f"the input '{value.name}' of {called}"
        if not _is_numbers(value):
            text = value.type.HasField("tensor_type")
            kind = str(value.type.WhichOneof("value"))[:-5]
            what = "takes text" if text else f"is {'an' if kind == 'optional' else 'a'} {kind}"
            remedy = "take that part out of the model, so that it takes numbers"
            yield Unusable(f"{named} {what}", remedy, value.name)
        elif not value.type.tensor_type.HasField("shape"):
            remedy = "give it one with onnx.tools.update_model_dims, or export the model again"
            yield Unusable(f"{named} has no shape", remedy, value.name)
        elif not value.type.tensor_type.shape.dim:
            what = f"{named} is a single number, and the pipeline feeds a row for each sample"
            yield Unusable(what, "make it a constant of the model, or export the model without it", value.name)
    odd = sorted(value.name for value in model.graph.output if not _is_numbers(value))
    if odd:
        left = [value.name for value in model.graph.output if value.name not in odd]
        remedy = f"set model.outputs=[{', '.join(left)}]" if left else "export the model with tensors as outputs"
        yield Unusable(f"the output '{odd[0]}' of {called} is not a tensor of numbers", remedy, odd[0])


def _is_numbers(value: ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type != TensorProto.STRING
