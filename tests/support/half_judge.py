"""Judges an FP16 form of a model against the model itself, on ONNX Runtime: what is wrong with it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.graph.names import inner_graphs
from enginewright.runtimes.onnxruntime.session import open_session
from support.half_execution import run_by_node

Array = npt.NDArray[Any]

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def faults(model: ModelProto, half: ModelProto, feeds: Mapping[str, Array], least_db: float = 40.0) -> list[str]:
    """What is wrong with `half` as the FP16 form of `model`; nothing if it is right.

    It is run as an engine of ONNX Runtime, and node by node, where everything between two nodes is rounded.
    """
    found = []
    try:
        onnx.checker.check_model(half, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as fault:
        found.append(f"the checker refuses it: {_line(fault)}")
    if opset(half) != opset(model):
        found.append(f"opset {opset(half)}")
    if (_types(model.graph.input), _types(model.graph.output)) != (_types(half.graph.input), _types(half.graph.output)):
        found.append("its inputs or outputs changed")
    expected = run(model, feeds)
    for how, runs in (("", run), ("node by node, ", run_by_node)):
        if how and not _goes_by_node(half):
            continue
        try:
            got = runs(half, feeds)
        except Exception as fault:  # noqa: BLE001 (ONNX Runtime's faults share no class, and any is a finding)
            return [*found, f"{how}ONNX Runtime cannot run it: {_line(fault)}"]
        for name, values in expected.items():
            wrong = _differences(values, got[name], least_db) if name in got else ["it is missing"]
            found += [f"{name}: {how}{what}" for what in wrong]
    return found


def _goes_by_node(model: ModelProto) -> bool:
    """Whether all tensors of a model can be given to a session: no sequence, no bfloat16."""
    types = [attribute.i for node in model.graph.node for attribute in node.attribute if attribute.name == "to"]
    sequences = any("Sequence" in node.op_type for node in model.graph.node)
    return not sequences and TensorProto.BFLOAT16 not in types


def run(model: ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs, on ONNX Runtime as an engine runs."""
    session = open_session(model.SerializeToString())
    given = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, given)))


def scales(model: ModelProto, feeds: Mapping[str, Array]) -> CalibrationCache:
    """The largest magnitude of every float32 tensor over 127, constants' too."""
    shown = ModelProto()
    shown.CopyFrom(onnx.shape_inference.infer_shapes(model))
    made = {name for node in model.graph.node for name in node.output}
    floats = [value for value in shown.graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    shown.graph.output.extend(value for value in floats if value.name in made)
    largest = {name: float(np.abs(values).max()) for name, values in {**run(shown, feeds), **feeds}.items()}
    return CalibrationCache(Header.minmax, {name: value / 127 for name, value in largest.items()})


def sqnr(expected: Array, got: Array) -> float:
    """Of what is finite in `expected`, in dB."""
    finite = np.isfinite(expected)
    signal = expected[finite].astype(np.float64)
    noise = float(((signal - got[finite]) ** 2).sum())
    return float("inf") if noise == 0 else 10 * np.log10(max(float((signal**2).sum()), 1e-300) / noise)


def products(model: ModelProto) -> tuple[int, int]:
    """How many Conv, ConvTranspose, Gemm and MatMul compute in FP16, and how many there are, inner graphs included."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return _products(inferred.graph, {})


def opset(model: ModelProto) -> int:
    """Of ONNX's own operators."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _products(graph: GraphProto, outer: Mapping[str, int]) -> tuple[int, int]:
    types = {**outer, **_types([*graph.input, *graph.output, *graph.value_info])}
    types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    for node in graph.node:  # the types of inner graphs' tensors are not always written down
        if node.op_type == "Cast":
            types[node.output[0]] = next(attribute.i for attribute in node.attribute if attribute.name == "to")
    half = total = 0
    for node in graph.node:
        if node.op_type in PRODUCTS:
            total += 1
            half += any(types.get(tensor) == TensorProto.FLOAT16 for tensor in node.input)
        for inner in inner_graphs(node):
            inner_half, inner_total = _products(inner, types)
            half, total = half + inner_half, total + inner_total
    return half, total


def _differences(expected: Array, got: Array, least_db: float) -> list[str]:
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return [f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"]
    if not np.issubdtype(expected.dtype, np.floating):
        share = float((expected == got).mean()) if expected.size else 1.0
        return [] if share >= 0.95 else [f"{share:.2f} of its integers are equal"]
    broken = np.isfinite(expected) & ~np.isfinite(got)
    if broken.any():
        return [f"{int(broken.sum())} of {broken.size} values are NaN or infinite"]
    infinite = ~np.isfinite(expected)
    if not np.array_equal(expected[infinite], got[infinite], equal_nan=True):
        return ["what is infinite differs"]
    found = sqnr(expected, got)
    return [] if found >= least_db else [f"{found:.1f} dB"]


def _types(values: Any) -> dict[str, int]:
    listed: list[ValueInfoProto] = list(values)
    return {value.name: value.type.tensor_type.elem_type for value in listed}


def _line(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:200]
