"""How an engine gets its precision: by builder flags and a calibrator (implicit), or from the ONNX itself (explicit).

What the library has decides, never its version: TensorRT 8.6 to 10 have both ways, TensorRT 11 and TensorRT-RTX the
explicit one alone (docs/decisions/0009-precision-by-hasattr.md). Where both are to be had, `auto` goes by the graph
(docs/decisions/0020-precision-mode.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import onnx
from google.protobuf.message import DecodeError

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.quantize import Quantized, quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import QUANTIZED, Placement, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch, ConfigError, ModelError
from enginewright.graph.bias import correct_biases
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.multiplications import multiplications
from enginewright.graph.names import printable
from enginewright.graph.qdq import quantizable, require_scales
from enginewright.graph.shapes import fold_static_shapes
from enginewright.runtimes.tensorrt import placing
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.log import fold
from enginewright.runtimes.tensorrt.mode import recommended

# With INT8, what has no INT8 kernel runs in FP16.
FLAGS = {Precision.fp32: (), Precision.fp16: ("FP16",), **dict.fromkeys(QUANTIZED, ("INT8", "FP16"))}


@dataclass(frozen=True)
class BuildPlan:
    """What the builder is given: an ONNX, builder flags, and for implicit INT8 the scales."""

    mode: PrecisionMode  # implicit or explicit
    model: onnx.ModelProto
    flags: tuple[str, ...]  # names of BuilderFlag members that this library has
    scales: Optional[CalibrationCache] = None  # for the calibrator of implicit INT8
    quantizable: tuple[
        str, ...
    ] = ()  # convolutions and matrix products of the model as exported, by the parser's names
    warnings: tuple[str, ...] = ()
    constrained: tuple[str, ...] = ()  # nodes that implicit INT8 must compute in FP16
    multiplications: Mapping[str, Optional[int]] = field(
        default_factory=dict
    )  # of each of `quantizable` for one image; INT8 engines alone have it
    chosen: str = ""  # why `auto` chose the mode of an INT8 engine, in words
    quantized_inputs: frozenset[str] = (
        frozenset()
    )  # explicit: those of `quantizable` that read what a DequantizeLinear makes
    left_in_float: Mapping[str, str] = field(
        default_factory=dict
    )  # what explicit INT8 leaves without Q/DQ nodes of itself, by the parser's names -> why


def supports_implicit(trt: Bindings) -> bool:
    """Whether this library has precision flags and calibrators at all."""
    return hasattr(trt, "IInt8EntropyCalibrator2") and hasattr(trt.BuilderFlag, "INT8")


def choose_mode(
    trt: Bindings, wanted: PrecisionMode, model: Optional[onnx.ModelProto] = None
) -> tuple[PrecisionMode, str]:
    """Resolve `auto`, and say why: for an INT8 engine of `model` by its graph where the library has both ways, else
    implicit where there is that one.

    Raises:
        ConfigError: implicit is asked for and this library has it no longer.
    """
    if wanted is PrecisionMode.implicit and not supports_implicit(trt):
        raise ConfigError(
            f"build.precision_mode: implicit is not in {trt.__name__} {trt.__version__}, which has neither INT8 flag"
            " nor calibrator; set auto"
        )
    if wanted is not PrecisionMode.auto:
        return wanted, ""
    if not supports_implicit(trt):
        return PrecisionMode.explicit, "this library has no other way"
    return (PrecisionMode.implicit, "") if model is None else recommended(model)


def make_plan(
    trt: Bindings,
    onnx_model: Path,
    precision: Precision,
    wanted: PrecisionMode,
    recipe: Optional[QuantizationRecipe],
    keep_fp16: Collection[str] = (),
) -> BuildPlan:
    """Decide on the mode and bring the ONNX and the flags in line with it.

    Raises:
        CalibrationMismatch: INT8 without scales, or with those of another model.
        ConfigError: the mode is not to be had.
        ModelError: the ONNX cannot be read or converted.
    """
    model, renamed = printable(fold_static_shapes(read_model(onnx_model)))
    keep_fp16 = tuple(renamed.get(name, name) for name in keep_fp16)
    mode, why = choose_mode(trt, wanted, model if precision in QUANTIZED else None)
    layers = quantizable(model)
    flags = tuple(name for name in FLAGS[precision] if hasattr(trt.BuilderFlag, name))
    plan = BuildPlan(mode, model, flags, None, tuple(map(node_name, layers)), chosen=why)
    if precision not in QUANTIZED:
        recipe = None
    elif recipe is None:
        raise CalibrationMismatch(f"an INT8 engine of {onnx_model} needs calib.cache; run `dvc repro calibrate`")
    else:
        recipe = recipe.renamed(renamed)
        weights = {weight.name for weight in model.graph.initializer}
        inputs = [
            value.name
            for value in model.graph.input
            if value.name not in weights and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        ]
        require_scales(recipe.scales.scales, inputs, str(onnx_model))
        counted = multiplications(model)
        plan = replace(plan, multiplications={node_name(node): counted.get(node.output[0]) for node in layers})
    parsed = {node.output[0]: node_name(node) for node in model.graph.node if not node.name}
    if mode is PrecisionMode.implicit:
        if recipe is not None and recipe.bias_correction is not None:
            model = correct_biases(model, recipe.bias_correction.layers, keep_fp16)
        scales = None if recipe is None else recipe.scales
        return replace(
            plan, model=model, scales=scales, constrained=tuple(parsed.get(name, name) for name in keep_fp16)
        )
    kept = (
        {}
        if recipe is None
        else {name: why for name, why in placing.left_in_float(model).items() if name not in keep_fp16}
    )
    keep_fp16 = [*keep_fp16, *kept]
    (converted, left), warned = _explicit(model, precision, recipe, keep_fp16, typed="FP16" not in flags)
    left = {**left, **kept}
    reasons = {parsed.get(name, name): reason for name, reason in left.items()}
    return replace(
        plan, model=converted, warnings=warned, left_in_float=reasons, quantized_inputs=_quantized_inputs(converted)
    )


def _quantized_inputs(model: onnx.ModelProto) -> frozenset[str]:
    """The layers that read a dequantized tensor, by the parser's names."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    casts = {
        node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.input[0] in dequantized
    }  # of a model in FP16
    return frozenset(node_name(node) for node in quantizable(model) if node.input[0] in dequantized | casts)


def _explicit(
    model: onnx.ModelProto,
    precision: Precision,
    recipe: Optional[QuantizationRecipe],
    keep_fp16: Collection[str],
    typed: bool,
) -> tuple[Quantized, tuple[str, ...]]:
    """The model with its precision written into it, and what the converter warned of; `typed`: no flag lets the library
    choose FP16.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        left: dict[str, str] = {}
        if recipe is not None:
            quantized, left = quantize(model, recipe, Placement.tensorrt, keep_fp16)
            model = placing.placed(quantized, model, recipe.scales.scales)
        if precision is Precision.fp16 or (precision is Precision.int8_mixed and typed):
            model = to_fp16(model)
    return Quantized(model, left), tuple(fold(" ".join(str(warning.message).split()) for warning in caught))


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data. Raises ModelError."""
    try:
        return onnx.load(str(path))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; run `dvc repro export`") from None
    except (DecodeError, onnx.checker.ValidationError) as fault:
        raise ModelError(
            f"{path} is not an ONNX model ({' '.join(str(fault).split())}); run `dvc repro export`"
        ) from None


def node_name(node: onnx.NodeProto) -> str:
    """The name that TensorRT's parser gives to the layers of a node: its own, or one made of its first output."""
    return node.name or f"node_of_{node.output[0]}"
