"""Inputs in the type that an engine computes in: FP16 engines take float16, INT8 engines int8 at the scale that
calib.cache has for the input.

The host then copies a half or a quarter of the bytes, and TensorRT's first reformat reads as much less. MLPerf
Inference submissions feed ResNet-50 in this way. Implicit precision sets the type of the network's input; explicit
precision has it in the ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import InputType, Precision, PrecisionMode
from enginewright.graph.names import Names
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.build_plan import BuildPlan

if TYPE_CHECKING:
    import tensorrt

NATIVE = {
    Precision.fp16: "HALF",
    Precision.int8: "INT8",
    Precision.int8_mixed: "INT8",
}  # trt.DataType; FP32 is float32 already


@dataclass(frozen=True)
class Inputs:
    """Names of the inputs that are not float32."""

    names: tuple[str, ...] = ()
    data_type: str = "FLOAT"
    scales: Mapping[str, float] = field(default_factory=dict)
    in_network: bool = False  # implicit: to be set on the parsed network

    def apply(self, trt: Bindings, network: tensorrt.INetworkDefinition) -> None:
        """Set type and format of the parsed network's inputs where the ONNX could not say it."""
        for index in range(network.num_inputs if self.in_network else 0):
            tensor = network.get_input(index)
            if tensor.name in self.names:
                tensor.dtype = getattr(trt.DataType, self.data_type)
                tensor.allowed_formats = 1 << int(
                    trt.TensorFormat.LINEAR
                )  # else TensorRT may choose one with channels in fours

    def settings(self) -> dict[str, Any]:
        """For the sidecar: scales of int8 inputs, which whoever feeds the engine needs."""
        return {"input_scales": dict(self.scales)} if self.scales else {}


def native_inputs(
    plan: BuildPlan, precision: Precision, wanted: InputType, recipe: Optional[QuantizationRecipe]
) -> tuple[Inputs, BuildPlan]:
    """Return the inputs' types and the plan for them: with explicit precision, one whose model has these types.

    `make_plan` has seen to it that calib.cache has a scale for every input of an INT8 engine.
    """
    if wanted is InputType.float32 or precision not in NATIVE:
        return Inputs(), plan
    weights = {tensor.name for tensor in plan.model.graph.initializer}
    real = [
        value.name
        for value in plan.model.graph.input
        if value.name not in weights and value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    scales = {name: recipe.scales.scales[name] for name in real} if precision is not Precision.fp16 and recipe else {}
    if plan.mode is PrecisionMode.implicit:
        return Inputs(tuple(real), NATIVE[precision], scales, in_network=True), plan
    model = ModelProto()
    model.CopyFrom(plan.model)
    for name in real:
        _retype(model, name, scales.get(name))
    return Inputs(tuple(real), NATIVE[precision], scales), replace(plan, model=model)


def _retype(model: ModelProto, name: str, scale: Optional[float]) -> None:
    """Make an input int8 (with a scale) or float16: the conversion that stood behind it goes, or becomes its reverse
    for who needs float32.
    """
    graph = model.graph
    (value,) = (value for value in graph.input if value.name == name)
    value.type.tensor_type.elem_type = TensorProto.FLOAT16 if scale is None else TensorProto.INT8
    converter = "Cast" if scale is None else "QuantizeLinear"
    for node in [node for node in graph.node if node.op_type == converter and node.input[0] == name]:
        _rename(graph, node.output[0], name)
        graph.node.remove(node)
    readers = (
        [node for node in graph.node if name in node.input and node.op_type != "DequantizeLinear"]
        if scale is not None
        else []
    )
    if not readers:
        return
    names = Names(model)
    real, *parameters = (names.unique(f"{name}_{what}") for what in ("real", "input_scale", "input_zero_point"))
    for tensor, content in zip(parameters, (np.float32(scale), np.int8(0))):
        graph.initializer.append(numpy_helper.from_array(np.asarray(content), tensor))
    for node in readers:
        _replace(node.input, name, real)
    graph.node.insert(
        0,
        helper.make_node(
            "DequantizeLinear", [name, *parameters], [real], name=names.unique(f"{name}_DequantizeLinear")
        ),
    )


def _rename(graph: GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        _replace(node.input, old, new)


def _replace(inputs: Any, old: str, new: str) -> None:
    for index, tensor in enumerate(inputs):
        if tensor == old:
            inputs[index] = new
