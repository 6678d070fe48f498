"""An ONNX model to one that a session turns into kernels when it loads it."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import onnx

from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import QUANTIZED, InputType, Placement, Precision
from enginewright.errors import CalibrationMismatch, ConfigError, ModelError
from enginewright.graph import stored
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.multiplications import multiplications
from enginewright.graph.qdq import quantizable
from enginewright.graph.reasons import explained
from enginewright.plugins import Plugins
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.int8 import FLOAT, INT8, UNKNOWN, Int8Share, findings, int8_share, refusal
from enginewright.runtimes.onnxruntime.prepare import prepared
from enginewright.runtimes.onnxruntime.session import needs_exact_products, one_line, open_model, refusals
from enginewright.target import instruction_sets

INTEGER_KERNELS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
)
NO_MEMORY = re.compile(r"bad[_ ]alloc|[Ff]ailed to allocate memory|out of memory")
FLOAT_KERNELS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


def build(path: Path, job: BuildJob, version: str) -> BuiltEngine:
    """Return an ONNX file that a session turns into kernels at load; what INT8 leaves in float runs in FP32, which
    a CPU is faster in.

    Raises:
        CalibrationMismatch: INT8 without a cache, or with that of another model.
        ConfigError: build.input_type is native.
        ModelError: ONNX Runtime cannot run the result.
        RuntimeUnavailable: the package is missing.
    """
    if job.settings.input_type is InputType.native:
        raise ConfigError(
            "build.input_type: native is for TensorRT, and ONNX Runtime's engines take float32; set"
            " build.input_type=float32"
        )
    model = stored.read(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result, left = in_precision(path, model, job.precision, job.recipe, job.keep_fp16)
    kernels = _optimized(result, path, job).graph
    integer = [node for node in kernels.node if node.op_type in INTEGER_KERNELS]
    real = [node for node in kernels.node if node.op_type in FLOAT_KERNELS]
    said = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    built = BuiltEngine(
        stored.serialized(result),
        _by_precision(integer, real, kernels),
        len(quantizable(model)),
        len(integer),
        left,
        warnings=said,
        settings=_described(job, version),
    )
    if job.precision not in QUANTIZED:
        return built
    share = _int8_share(model, integer, job.keep_fp16)
    if share.none:
        raise ModelError(f"{path}: {refusal(share, f'ONNX Runtime {version}', _remedy(left))}")
    return replace(
        built,
        int8=share.to_dict(),
        findings=findings(share, _remedy(left)),
        warnings=[*said, *(_in_float(node, left) for node in real if node.name not in job.keep_fp16)],
    )


def _described(job: BuildJob, version: str) -> dict[str, Any]:
    """For the sidecar."""
    return {
        "precision": job.precision.name,
        "axes": {name: axis.to_dict() for name, axis in job.axes.items()},
        "versions": {"onnxruntime": version, "onnx": onnx.__version__},
        **({"float_nodes": list(job.keep_fp16)} if job.keep_fp16 else {}),
        "exact_int8_products": needs_exact_products(instruction_sets()),
    }


def in_precision(
    path: Path,
    model: onnx.ModelProto,
    precision: Precision,
    recipe: Optional[QuantizationRecipe],
    keep_fp16: Collection[str] = (),
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model of `path`, read as `model`, as a session shall run it, and what of it INT8 leaves in float, with the
    reasons.

    Raises:
        CalibrationMismatch: INT8 without a cache, or with that of another model.
        ModelError: the model cannot be converted.
    """
    if precision is Precision.fp32:
        return model, {}
    if precision is Precision.fp16:
        return to_fp16(model), {}
    if recipe is None:
        raise CalibrationMismatch(f"INT8 of {path} needs a calibration cache; run `dvc repro calibrate`")
    ready, recipe = prepared(model, recipe)
    names = {node.name for node in ready.graph.node}
    return quantize(ready, recipe, Placement.onnxruntime, [name for name in keep_fp16 if name in names])


def _in_float(node: onnx.NodeProto, left: Mapping[str, str]) -> str:
    """The warning about a layer that an INT8 engine computes in float, with the reason where `left` has one."""
    name = node.name or node.output[0]
    return explained(f"{name} ({node.op_type}) runs in float", name, left)


def _optimized(engine: onnx.ModelProto, source: Path, job: BuildJob) -> onnx.ModelProto:
    """The graph that a session really executes on this machine, without large weights. Raises ModelError."""
    precision = job.precision
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        fault = _refused(engine, job.plugins, path)
        if fault is None:
            return stored.parsed(path)
        if precision is Precision.fp32 or _refused(stored.read(source), job.plugins) is not None:
            raise ModelError(f"ONNX Runtime cannot run {source}: {fault}; see the report of check_onnx")
        raise ModelError(
            f"ONNX Runtime runs {source} in FP32 and refuses its {precision.value} form, which is made here: {fault}; "
            f"replace the operator of that node in the model, or build without {precision.name}"
        )


def _refused(model: onnx.ModelProto, plugins: Plugins, optimized: Optional[Path] = None) -> Optional[str]:
    """Why a session takes no such model, in one line that names the node; None if it does. The optimized graph goes to
    `optimized`.
    """
    try:
        open_model(model, plugins=plugins, optimized=optimized)
    except refusals() as fault:
        if NO_MEMORY.search(str(fault)):
            raise MemoryError(one_line(fault)) from None  # of this machine, not of the model
        return one_line(fault)
    return None


def _by_precision(
    integer: Sequence[onnx.NodeProto], real: Sequence[onnx.NodeProto], graph: onnx.GraphProto
) -> dict[str, int]:
    """Conv, ConvTranspose, Gemm and MatMul kernels by the type of their weights."""
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    fp16 = sum(any(tensor in half for tensor in node.input) for node in real)
    counts = {"INT8": len(integer), "FP16": fp16, "FP32": len(real) - fp16}
    return {precision: count for precision, count in counts.items() if count}


def _int8_share(model: onnx.ModelProto, integer: Sequence[onnx.NodeProto], keep_fp16: Collection[str]) -> Int8Share:
    """What of a model runs in an integer kernel. Kernels bear the names of their nodes, some with a number behind
    them.
    """
    kernels = {re.sub(r"_token_\d+$", "", node.name) for node in integer}
    layers = {node.name or node.output[0]: node for node in quantizable(model)}
    ran = {name: INT8 if name in kernels else FLOAT for name in layers}
    if sum(kind == INT8 for kind in ran.values()) == len(integer):
        counted = multiplications(model)
        return int8_share(ran, {name: counted.get(node.output[0]) for name, node in layers.items()}, keep_fp16)
    asked = sum(
        name not in keep_fp16 for name in layers
    )  # kernels without a name of their own: how many, but not which
    return Int8Share({INT8: min(len(integer), asked), FLOAT: max(asked - len(integer), 0), UNKNOWN: 0}, {})


def _remedy(left: Mapping[str, str]) -> str:
    """What to try where INT8 does not come about on a CPU."""
    reasons = "; ".join(dict.fromkeys(left.values()))
    return (
        f"layers were left in float ({reasons}); use the FP32 engine"
        if reasons
        else "keep fewer layers in float, or use the FP32 engine"
    )
