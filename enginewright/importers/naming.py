"""The axes of an ONNX file under the names that the configuration knows them by.

What a file names stays named. `model.axis_names` names what it leaves unnamed, and may give a name another one. In
place 0 is the batch, whatever the file calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from onnx import ModelProto, TensorShapeProto, ValueInfoProto

from enginewright.config import Model
from enginewright.config.inputs import NAME
from enginewright.errors import ModelError, nearest
from enginewright.graph.axes import is_unnamed, naming_line, usual_names
from enginewright.interface import BATCH, Axes

Axis = TensorShapeProto.Dimension


def name_axes(model: ModelProto, settings: Model, called: str) -> dict[str, int]:
    """Name the dynamic axes of the inputs, in place, and forget the names of what is in between.

    Args:
        model: edited in place; its outputs are renamed along.
        settings: the configuration, for axis_names.
        called: the file, for sentences.

    Returns:
        Inputs with a batch of 1 that axis_names asks to be freed -> its place.

    Raises:
        ModelError: an axis has no name or no usable one, or axis_names names what is not there.
    """
    inputs = {value.name: value for value in model.graph.input}
    ends = [axis for value in (*model.graph.input, *model.graph.output) for axis in _axes(value)]
    for axis in ends:
        if is_unnamed(_size(axis)):
            axis.Clear()
    renamed: dict[str, str] = {}
    freed = _give_all(inputs, settings, called, renamed)
    _name_batch(inputs, renamed)
    for axis in ends:
        if axis.dim_param in renamed:
            axis.dim_param = renamed[axis.dim_param]
    for value in inputs.values():
        _require_names(value, called)
    del model.graph.value_info[:]
    return freed


def _give_all(
    inputs: Mapping[str, ValueInfoProto], settings: Model, called: str, renamed: dict[str, str]
) -> dict[str, int]:
    """Give the names of axis_names; inputs with a batch of 1 to be freed -> its place."""
    freed: dict[str, int] = {}
    for name, asked in settings.axis_names.items():
        if name not in inputs:
            raise ModelError(f"model.axis_names names '{name}', which is no input of {called}{nearest(name, inputs)}")
        for place, wanted in asked.items():
            if _give(inputs[name], int(place), str(wanted), called, renamed):
                freed[name] = int(place)
    return freed


def require_ranges(model: ModelProto, axes: Axes, called: str) -> None:
    """Raise ModelError if `axes` lacks a named axis of an input, or has one that no input has."""
    named = {
        axis.dim_param: value.name
        for value in model.graph.input
        for axis in value.type.tensor_type.shape.dim
        if axis.dim_param
    }
    for axis, name in named.items():
        if axis not in axes:
            raise ModelError(
                f"the axis '{axis}' of the input '{name}' of {called} has no range; set axes.{axis}={{min: ..., opt:"
                f" ..., max: ...}}{nearest(axis, set(axes) - named.keys() - {BATCH})}"
            )
    for axis in axes:
        if axis not in named and axis != BATCH:
            raise ModelError(f"axes.{axis} is an axis of no input of {called}{nearest(axis, named)}")


def fixed_batch(model: ModelProto) -> Optional[int]:
    """The batch where the inputs fix it."""
    firsts = [value.type.tensor_type.shape.dim[0] for value in model.graph.input if _axes(value)]
    fixed = [int(axis.dim_value) for axis in firsts if axis.HasField("dim_value")]
    return min(fixed) if fixed else None


def _give(value: ValueInfoProto, place: int, wanted: str, called: str, renamed: dict[str, str]) -> bool:
    """Name one axis; whether it is a batch of 1 to be freed instead."""
    axes, written = _axes(value), f"model.axis_names.{value.name}.{place}"
    if not 0 <= place < len(axes):
        raise ModelError(f"{written}: the input has {len(axes)} axes in {called}, numbered from 0; mend the number")
    if not NAME.fullmatch(wanted):
        raise ModelError(f"{written}: '{wanted}' is not the name of an axis; use letters, digits and _")
    if (place == 0) != (wanted == BATCH):
        raise ModelError(f"{written}: '{wanted}' cannot be there; axis 0 is `{BATCH}`, and no other axis is")
    axis = axes[place]
    if not axis.HasField("dim_value"):
        if axis.dim_param:
            renamed[axis.dim_param] = wanted
        axis.dim_param = wanted
        return False
    if wanted == BATCH and axis.dim_value == 1:
        return True
    what = f"a batch of {axis.dim_value}" if wanted == BATCH else f"{axis.dim_value}"
    raise ModelError(
        f"{written}: the file fixes that axis at {what}, and only a batch of 1 can be freed; export the model again"
        f" with a dynamic axis '{wanted}', or leave it out of axis_names"
    )


def _name_batch(inputs: Mapping[str, ValueInfoProto], renamed: dict[str, str]) -> None:
    """Whatever the file calls axis 0 of an input is the batch."""
    for value in inputs.values():
        for axis in list(_axes(value))[:1]:
            if not axis.HasField("dim_value"):
                if axis.dim_param and axis.dim_param != BATCH:
                    renamed[axis.dim_param] = BATCH
                axis.dim_param = BATCH


def _require_names(value: ValueInfoProto, called: str) -> None:
    sizes = [_size(axis) for axis in _axes(value)]
    usual = usual_names([None] * len(sizes))
    missing = {place: usual[place] for place, size in enumerate(sizes) if place and size is None}
    odd = {
        place: usual[place] for place, size in enumerate(sizes) if isinstance(size, str) and not NAME.fullmatch(size)
    }
    if missing or odd:
        shown = ", ".join("?" if size is None else str(size) for size in sizes)
        places = ", ".join(map(str, sorted({*missing, *odd})))
        what = f"leaves the dynamic axes {places} unnamed" if not odd else f"gives axes {places} no usable name"
        raise ModelError(
            f"the input '{value.name}' [{shown}] of {called} {what}; name them, such as"
            f" {naming_line(value.name, {**missing, **odd})}, and give each a range in axes"
        )
    if BATCH in sizes[1:]:
        raise ModelError(
            f"the input '{value.name}' [{', '.join(map(str, sizes))}] of {called} has its batch at place"
            f" {sizes.index(BATCH, 1)}; the pipeline puts samples together along axis 0: export the model with the"
            " batch there"
        )


def _axes(value: ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


def _size(axis: Axis) -> Any:
    """A number, a name, or None."""
    return int(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or None


def shown(value: ValueInfoProto) -> str:
    """`'images' [1, 3, 416, 416]`."""
    return f"'{value.name}' [{', '.join(_words(value))}]"


def _words(value: ValueInfoProto) -> Iterator[str]:
    for axis in _axes(value):
        size = _size(axis)
        yield "?" if size is None else str(size)
