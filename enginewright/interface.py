"""What a model or an engine takes and gives: named tensors with dtypes and symbolic axes, and the range of each axis.

An axis is a number where it is fixed and a name where it is not, as ONNX's dim_param: ("batch", 3, "height", "width").
Axes of one name have one size. NumPy is all that this module needs, so that a target can read an engine's interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import numpy as np

from enginewright.errors import ConfigError, EngineInputError, ModelError, nearest

if TYPE_CHECKING:
    import onnx

BATCH = "batch"  # the first axis of what a model takes image by image
UNNAMED = ""  # a dynamic axis that the model has no name for

Shape = tuple[int, ...]


class ShapeRange(NamedTuple):
    """The shapes that an input may have, smallest, usual and largest."""

    min: Shape
    opt: Shape
    max: Shape


@dataclass(frozen=True)
class AxisRange:
    """The sizes of a dynamic axis that an engine is built for; `opt` is the one that it is tuned for."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        """Raises ConfigError unless 1 <= min <= opt <= max."""
        if not 1 <= self.min <= self.opt <= self.max:
            raise ConfigError(
                f"an axis cannot range over min {self.min}, opt {self.opt}, max {self.max}; write them in ascending"
                " order, from 1 on"
            )

    def to_dict(self) -> dict[str, int]:
        """JSON-ready; `AxisRange(**values)` is the inverse."""
        return {"min": self.min, "opt": self.opt, "max": self.max}


Axes = Mapping[str, AxisRange]


def batches(smallest: int, usual: int, largest: int) -> dict[str, AxisRange]:
    """A range for the batch alone."""
    return {BATCH: AxisRange(smallest, usual, largest)}


def up_to(rows: int) -> dict[str, AxisRange]:
    """Batches of one to `rows` rows, every other axis as it is fed."""
    return batches(1, rows, rows)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model or an engine."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Union[int, str], ...]  # a number, the name of a dynamic axis, or UNNAMED
    scale: Optional[float] = None  # of an int8 input that stands for real numbers: real = scale * integer

    def sizes(self, sizes: Mapping[str, int]) -> Shape:
        """The shape with a size for each name; a name without one has size 1."""
        return tuple(axis if isinstance(axis, int) else sizes.get(axis, 1) for axis in self.shape)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without a scale where there is none."""
        found = {"name": self.name, "dtype": self.dtype.name, "shape": list(self.shape)}
        return found if self.scale is None else {**found, "scale": self.scale}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TensorSpec:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        name, shape, scale = values["name"], tuple(values["shape"]), values.get("scale")
        typed = isinstance(name, str) and all(type(axis) in (int, str) for axis in shape)
        if not typed or not (scale is None or isinstance(scale, (int, float))):
            raise TypeError(f"{dict(values)} does not describe a tensor")
        return cls(name, np.dtype(values["dtype"]), shape, scale)


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model or an engine, in its order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """The input `name`. Raises EngineInputError with the nearest one."""
        return _named(self.inputs, name, "input")

    def output(self, name: str) -> TensorSpec:
        """The output `name`. Raises EngineInputError with the nearest one."""
        return _named(self.outputs, name, "output")

    def axes(self) -> tuple[str, ...]:
        """The names of the inputs' dynamic axes, in the order in which they come up."""
        named = [axis for spec in self.inputs for axis in spec.shape if isinstance(axis, str) and axis != UNNAMED]
        return tuple(dict.fromkeys(named))

    def shapes(self, axes: Axes) -> dict[str, ShapeRange]:
        """Min, opt and max shape of every input.

        Raises:
            ConfigError: an input has a dynamic axis without a name, or one that `axes` gives no range.
        """
        found = {}
        for spec in self.inputs:
            ranges = [_range(spec, axis, axes) for axis in spec.shape]
            found[spec.name] = ShapeRange(*(tuple(sizes[place] for sizes in ranges) for place in range(3)))
        return found

    def sizes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """The size of each dynamic axis but the batch, where the inputs have these shapes, [n, ...]."""
        return {
            axis: shapes[spec.name][place]
            for spec in self.inputs
            for place, axis in enumerate(spec.shape)
            if isinstance(axis, str) and axis not in (BATCH, UNNAMED)
        }

    def with_batch(self) -> Interface:
        """The same tensors, where the first axis of each is called BATCH if it is dynamic, whatever the model calls it.

        An axis that shares its name with such a first axis is renamed with it.
        """
        first = {spec.shape[0] for spec in (*self.inputs, *self.outputs) if spec.shape} - {UNNAMED}

        def renamed(spec: TensorSpec) -> TensorSpec:
            shape = [BATCH if isinstance(axis, str) and axis in first else axis for axis in spec.shape]
            if shape and shape[0] == UNNAMED:
                shape[0] = BATCH
            return replace(spec, shape=tuple(shape))

        return Interface(tuple(map(renamed, self.inputs)), tuple(map(renamed, self.outputs)))

    def rows(self, axes: Axes) -> int:
        """The largest batch: the range of BATCH, or the fixed size of the first axis where it is not dynamic."""
        if BATCH in axes:
            return axes[BATCH].max
        fixed = [spec.shape[0] for spec in self.inputs if spec.shape]
        return min((size for size in fixed if isinstance(size, int)), default=1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Interface:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        return cls(
            tuple(map(TensorSpec.from_dict, values["inputs"])), tuple(map(TensorSpec.from_dict, values["outputs"]))
        )

    @classmethod
    def from_file(cls, path: Path) -> Interface:
        """Read an ONNX file, without its weights where these lie beside it. Raises as `from_onnx`."""
        import onnx

        return cls.from_onnx(onnx.load(str(path), load_external_data=False))

    @classmethod
    def from_onnx(cls, model: onnx.ModelProto) -> Interface:
        """Read names, dtypes and axes; an output of unknown rank has the shape ().

        Raises:
            ModelError: an input or output is not a tensor, is of a type that NumPy lacks, or an input has no shape.
        """
        weights = {tensor.name for tensor in model.graph.initializer}  # old exporters list them among the inputs
        inputs = [value for value in model.graph.input if value.name not in weights]
        for value in inputs:
            if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
                raise ModelError(f"the input '{value.name}' has no shape in the ONNX; export the model with one")
        return cls(tuple(map(_from_onnx, inputs)), tuple(map(_from_onnx, model.graph.output)))


def _named(specs: Sequence[TensorSpec], name: str, kind: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise EngineInputError(f"there is no {kind} '{name}'{nearest(name, [spec.name for spec in specs])}")


def _range(spec: TensorSpec, axis: Union[int, str], axes: Axes) -> tuple[int, int, int]:
    if isinstance(axis, int):
        return axis, axis, axis
    if axis == UNNAMED:
        place = spec.shape.index(UNNAMED)
        raise ConfigError(
            f"the input '{spec.name}' {list(spec.shape)} has a dynamic axis without a name at place {place}; export the"
            " model with a name for it, or with a fixed size"
        )
    if axis not in axes:
        given = f"; there is one for {', '.join(axes)}" if axes else ""
        raise ConfigError(
            f"the axis '{axis}' of the input '{spec.name}' {list(spec.shape)} has no range{given}; set"
            f" axes.{axis}={{min: ..., opt: ..., max: ...}}, or export the model with a fixed size"
        )
    return axes[axis].min, axes[axis].opt, axes[axis].max


def _from_onnx(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"'{value.name}' is a {value.type.WhichOneof('value')}, not a tensor; export it as tensors")
    name = onnx.TensorProto.DataType.Name(kind.elem_type)
    if name not in NUMPY_NAMES:
        raise ModelError(f"'{value.name}' is {name}, which NumPy lacks; export the model with another type for it")
    shape = [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or UNNAMED for axis in kind.shape.dim]
    return TensorSpec(value.name, np.dtype(NUMPY_NAMES[name]), tuple(shape))


# onnx.TensorProto.DataType -> NumPy's name, for what NumPy has and engines take
NUMPY_NAMES = {
    **{name: name.lower() for name in ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")},
    **{"FLOAT": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "BOOL": "bool"},
}
