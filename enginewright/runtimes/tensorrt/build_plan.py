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

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.quantize import Quantized, quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import QUANTIZED, Placement, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch, ConfigError
from enginewright.graph.bias import correct_biases
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.index import Graph
from enginewright.graph.multiplications import multiplications
from enginewright.graph.names import printable
from enginewright.graph.qdq import quantizable, require_scales
from enginewright.graph.shapes import fold_static_shapes
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.tensorrt import placing
from enginewright.runtimes.tensorrt.bindings import Bindings, supports_implicit
from enginewright.runtimes.tensorrt.log import fold
from enginewright.runtimes.tensorrt.mode import Features, features, recommended
from enginewright.runtimes.tensorrt.parser import node_name, read_model

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


@dataclass(frozen=True)
class Source:
    """A model, read and simplified once for all plans that are made of it."""

    path: Path
    model: onnx.ModelProto  # static shapes folded, every name printable; not to be edited
    renamed: Mapping[str, str]  # name in the file -> name in the model, where they differ
    features: Features  # of the file, by its names
    folded: frozenset[str]  # nodes of the file that are none of the model: they compute what is known beforehand


def read_source(path: Path) -> Source:
    """Read an ONNX file. Raises ModelError."""
    model = read_model(path)
    found = features(model)
    graph = Graph(model)
    names = {graph.key(node) for node in graph.nodes}
    simplified, renamed = printable(fold_static_shapes(model))
    left = {name for node in simplified.graph.node for name in (node.name, *node.output)}
    folded = frozenset(name for name in names if renamed.get(name, name) not in left)
    return Source(path, simplified, renamed, found, folded)


def make_plan(trt: Bindings, source: Source, job: BuildJob, wanted: PrecisionMode) -> BuildPlan:
    """Decide on the mode and bring the ONNX and the flags in line with it.

    Raises:
        CalibrationMismatch: INT8 without scales, or with those of another model.
        ConfigError: the mode is not to be had.
        ModelError: the ONNX cannot be converted.
    """
    model, quantizes = source.model, job.precision in QUANTIZED
    mode, why = choose_mode(trt, wanted, model if quantizes else None)
    flags = tuple(name for name in FLAGS[job.precision] if hasattr(trt.BuilderFlag, name))
    layers = quantizable(model)
    plan = BuildPlan(mode, model, flags, None, tuple(map(node_name, layers)), chosen=why)
    recipe = _recipe_for(source, job) if quantizes else None
    if quantizes:
        counted = multiplications(model)
        plan = replace(plan, multiplications={node_name(node): counted.get(node.output[0]) for node in layers})
    keep_fp16 = tuple(source.renamed.get(name, name) for name in job.keep_fp16 if name not in source.folded)
    parsed = {node.output[0]: node_name(node) for node in model.graph.node if not node.name}
    if mode is PrecisionMode.implicit:
        constrained = tuple(parsed.get(name, name) for name in keep_fp16)
        return replace(_implicit(plan, recipe, keep_fp16), constrained=constrained)
    (converted, left), warned = _explicit(plan, job.precision, recipe, keep_fp16)
    reasons = {parsed.get(name, name): reason for name, reason in left.items()}
    return replace(
        plan, model=converted, warnings=warned, left_in_float=reasons, quantized_inputs=_quantized_inputs(converted)
    )


def _recipe_for(source: Source, job: BuildJob) -> QuantizationRecipe:
    """The recipe by the names of `source.model`. Raises CalibrationMismatch if there is none, or if an input has no
    scale.
    """
    if job.recipe is None:
        raise CalibrationMismatch(f"an INT8 engine of {source.path} needs calib.cache; run `dvc repro calibrate`")
    recipe, graph = job.recipe.renamed(source.renamed), source.model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [
        value.name
        for value in graph.input
        if value.name not in weights and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    require_scales(recipe.scales.scales, inputs, str(source.path))
    return recipe


def _implicit(plan: BuildPlan, recipe: Optional[QuantizationRecipe], keep_fp16: Collection[str]) -> BuildPlan:
    """The float model, its biases corrected, and scales for a calibrator."""
    if recipe is None:
        return plan
    model = plan.model
    if recipe.bias_correction is not None:
        model = correct_biases(model, recipe.bias_correction.layers, keep_fp16)
    return replace(plan, model=model, scales=recipe.scales)


def _quantized_inputs(model: onnx.ModelProto) -> frozenset[str]:
    """The layers that read a dequantized tensor, by the parser's names."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    casts = {
        node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.input[0] in dequantized
    }  # of a model in FP16
    return frozenset(node_name(node) for node in quantizable(model) if node.input[0] in dequantized | casts)


def _explicit(
    plan: BuildPlan, precision: Precision, recipe: Optional[QuantizationRecipe], keep_fp16: Collection[str]
) -> tuple[Quantized, tuple[str, ...]]:
    """The model with its precision written into it, what INT8 leaves in float, and what the converter warned of."""
    model, left = plan.model, dict[str, str]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if recipe is not None:
            kept = {name: why for name, why in placing.left_in_float(model).items() if name not in keep_fp16}
            quantized, left = quantize(model, recipe, Placement.tensorrt, [*keep_fp16, *kept])
            model, left = placing.placed(quantized, model, recipe.scales.scales), {**left, **kept}
        # without a flag that lets the library choose FP16, the ONNX has it in its types
        if precision is Precision.fp16 or (precision is Precision.int8_mixed and "FP16" not in plan.flags):
            model = to_fp16(model)
    said = (" ".join(str(warning.message).split()) for warning in caught)
    return Quantized(model, left), tuple(fold(said))
