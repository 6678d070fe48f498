"""Inputs and outputs of a deserialized engine by name: the only I/O API that TensorRT 8.6, 10, 11 and TensorRT-RTX
share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Union

import numpy as np

from enginewright.errors import RuntimeUnavailable
from enginewright.interface import BATCH, AxisRange, Interface, Shape, TensorSpec

NUMPY_TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Binding:
    """An input or output tensor, with the shapes that its optimization profile allows."""

    spec: TensorSpec
    minimum: Shape
    maximum: Shape
    usual: Shape = ()  # of an input: what the engine is tuned for

    @property
    def name(self) -> str:
        """The tensor's name in the ONNX."""
        return self.spec.name

    def nbytes(self) -> int:
        """Size in bytes of its largest shape."""
        return int(np.prod(self.maximum, dtype=np.int64)) * self.spec.dtype.itemsize


def read_inputs(trt: ModuleType, engine: Any, profile: int) -> list[Binding]:
    """The inputs of an engine under an optimization profile. Raises RuntimeUnavailable for what this runtime does not
    serve.
    """
    bindings = []
    for name in _names(engine, trt.TensorIOMode.INPUT):
        if engine.is_shape_inference_io(name):
            raise RuntimeUnavailable(
                f"the input '{name}' is a shape tensor, which has no batch to run; export the model with this shape"
                " fixed"
            )
        spec = _spec(trt, engine, name)
        minimum, usual, maximum = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, profile))
        if not maximum:
            raise RuntimeUnavailable(
                f"the input '{name}' is a single number and has no batch axis; export the model with this number fixed"
            )
        bindings.append(Binding(spec, minimum, maximum, usual))
    return bindings


def read_outputs(trt: ModuleType, engine: Any, context: Any, inputs: list[Binding]) -> list[Binding]:
    """The outputs; their largest shapes are those that `context` infers from the inputs' largest."""
    names = _names(engine, trt.TensorIOMode.OUTPUT)
    shapes: list[dict[str, Shape]] = []
    for limit in ("minimum", "maximum"):
        for binding in inputs:
            context.set_input_shape(binding.name, getattr(binding, limit))
        shapes.append({name: tuple(context.get_tensor_shape(name)) for name in names})
    for name, shape in shapes[1].items():
        if any(axis < 0 for axis in shape):
            raise RuntimeUnavailable(
                f"the shape of the output '{name}' depends on the data ({list(shape)}); export the model with a fixed"
                " number of results"
            )
    return [Binding(_spec(trt, engine, name), shapes[0][name], shapes[1][name]) for name in names]


def with_names(bindings: list[Binding], model: Interface) -> list[Binding]:
    """The same, with the model's names for dynamic axes, which a serialized engine does not keep."""
    known = {spec.name: spec.shape for spec in (*model.with_batch().inputs, *model.with_batch().outputs)}
    return [replace(binding, spec=_named(binding.spec, known.get(binding.name, ()))) for binding in bindings]


def _named(spec: TensorSpec, names: tuple[Union[int, str], ...]) -> TensorSpec:
    if len(names) != len(spec.shape):
        return spec
    known = [name if isinstance(name, str) and name else axis for name, axis in zip(names, spec.shape)]
    return replace(spec, shape=tuple(name if isinstance(axis, str) else axis for name, axis in zip(known, spec.shape)))


def axes_of(inputs: list[Binding]) -> dict[str, AxisRange]:
    """The range of each dynamic axis that these inputs have; of one that several have, what all of them allow."""
    found: dict[str, AxisRange] = {}
    for binding in inputs:
        for axis, *sizes in zip(binding.spec.shape, binding.minimum, binding.usual, binding.maximum):
            if isinstance(axis, int):
                continue
            known = found.setdefault(axis, AxisRange(*sizes))
            least, most = max(known.min, sizes[0]), min(known.max, sizes[2])
            found[axis] = AxisRange(least, max(least, min(known.opt, sizes[1], most)), most)
    return found


def _names(engine: Any, mode: Any) -> list[str]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return [name for name in names if engine.get_tensor_mode(name) == mode]


def _spec(trt: ModuleType, engine: Any, name: str) -> TensorSpec:
    kind = engine.get_tensor_dtype(name).name
    if kind not in NUMPY_TYPES:
        raise RuntimeUnavailable(
            f"the tensor '{name}' is {kind}, which NumPy lacks; export the model with float32 inputs and outputs"
        )
    if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
        raise RuntimeUnavailable(
            f"the tensor '{name}' has the vectorized format {engine.get_tensor_format_desc(name)}; build with linear"
            " I/O formats"
        )
    sizes = enumerate(engine.get_tensor_shape(name))  # -1 is dynamic; the engine keeps no name for it
    shape = tuple(int(size) if size >= 0 else f"{name}_axis{place}" if place else BATCH for place, size in sizes)
    return TensorSpec(name, np.dtype(NUMPY_TYPES[kind]), shape)
