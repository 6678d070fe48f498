"""The optimization profile: min, opt and max shape of every input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from enginewright.errors import ModelError
from enginewright.interface import BATCH, Axes, Interface, ShapeRange
from enginewright.runtimes.tensorrt.session import Session

if TYPE_CHECKING:
    import onnx
    import tensorrt


def profile_shapes(model: onnx.ModelProto, axes: Axes) -> dict[str, ShapeRange]:
    """Min, opt and max shape of every input.

    Raises:
        ConfigError: a dynamic axis has no range.
        ModelError: the batch is fixed to another size than its range.
    """
    interface = Interface.from_onnx(model).with_batch()
    batch = axes[BATCH]
    for spec in interface.inputs:
        size = spec.shape[0] if spec.shape else BATCH
        if isinstance(size, int) and not batch.min == batch.max == size:
            raise ModelError(
                f"the input '{spec.name}' has the fixed batch {size}; export it with a dynamic batch, or set"
                f" axes.batch to {size} throughout"
            )
    return interface.shapes(axes)


def add_profile(
    session: Session, config: tensorrt.IBuilderConfig, shapes: Mapping[str, ShapeRange], calibrates: bool = False
) -> None:
    """Add one optimization profile, with `calibrates` as the calibration profile too. Raises ModelError."""
    profile = session.builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, *(session.trt.Dims(list(shape)) for shape in (smallest, usual, largest)))
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f"TensorRT refuses the optimization profile {shapes}: {session.log.reason()}")
    if calibrates and not config.set_calibration_profile(profile):
        raise ModelError(f"TensorRT refuses the calibration profile {shapes}: {session.log.reason()}")
