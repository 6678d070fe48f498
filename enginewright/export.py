"""PyTorch to one ONNX file with a dynamic batch, and the proof that both compute the same.

The TorchScript exporter (`dynamo=False`) is used for every opset that the configuration allows: the default exporter of PyTorch 2.9
and later writes opset 18 and converts down, and TensorRT 8.6 refuses what comes out (github.com/NVIDIA/TensorRT/issues/3934).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from enginewright.calibration.simplify import simplified
from enginewright.config import Export, Model
from enginewright.errors import ModelError

if TYPE_CHECKING:
    import torch

BATCHES = (1, 2, 7)  # 1 hides a batch that is baked in, 2 is the batch of the example that is traced, 7 is neither
TRACED_BATCH = 2  # not 1: a trace may treat an axis of one as broadcast (github.com/huggingface/optimum/issues/2219)
BATCH_AXIS = "batch"
ONE_FILE_LIMIT = 2**31 - 1  # bytes of a protobuf message

Batch = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """PyTorch against ONNX Runtime on the same seeded random batches."""

    differences: Mapping[int, float]  # batch size -> largest |PyTorch - ONNX Runtime| / largest |PyTorch|

    @property
    def largest(self) -> float:
        """The largest relative difference over all batch sizes."""
        return max(self.differences.values())


def to_onnx(model: torch.nn.Module, interface: Model, settings: Export) -> bytes:
    """Trace a model and return it as one serialized ONNX file, the same bytes for the same model, weights and versions.

    Constants and padding are folded, BatchNormalization is fused into the convolution before it, and the first axis of input and output is
    the symbolic dimension `batch`.

    Args:
        model: from [N, *interface.input_shape] float32 to one tensor [N, ...]; it is put in evaluation mode.
        interface: names of input and output, and the input's shape without the batch.
        settings: the opset.

    Raises:
        ModelError: the model is over 2 GiB, cannot run on such an input, gives NaN or more than one tensor, or has no ONNX form.
    """
    import torch

    model.eval()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > ONE_FILE_LIMIT:
        raise ModelError(f"{interface.name} holds {size / 2**30:.1f} GiB of weights and one ONNX file takes 2 GiB at most; use a smaller model")
    example = torch.from_numpy(_random_batch(TRACED_BATCH, interface.input_shape, seed=0))
    _run_torch(model, example.numpy(), interface)  # a fault of the model is told apart from one of the exporter
    try:
        return _cleaned(simplified(_trace(model, example, interface, settings.opset_version)))
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as fault:
        raise ModelError(
            f"{interface.name} has no ONNX form at opset {settings.opset_version}: {_first_line(fault)}; "
            f"replace that operation in {interface.code}, or raise export.opset_version"
        ) from fault


def compare(model: torch.nn.Module, exported: bytes, interface: Model, seed: int, batches: Iterable[int] = BATCHES) -> Comparison:
    """Run PyTorch and ONNX Runtime (CPU) on standard normal batches [N, *input_shape] float32 drawn from `seed`.

    Raises:
        ModelError: the ONNX holds a fixed batch, or one of the two gives NaN or infinity.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it has to say comes back as an exception
    try:
        session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    except (faults.Fail, faults.InvalidGraph, faults.NotImplemented) as fault:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the ONNX of {interface.name}: {_first_line(fault)}; lower export.opset_version or upgrade it"
        ) from fault
    model.eval()
    differences: dict[int, float] = {}
    for batch in batches:
        images = _random_batch(batch, interface.input_shape, seed)
        expected = _run_torch(model, images, interface)
        try:
            (got,) = session.run([interface.output_name], {interface.input_name: images})
        except (faults.Fail, faults.InvalidArgument, faults.RuntimeException) as fault:
            raise ModelError(f"{_baked_batch(interface, batch)}: {_first_line(fault)}") from fault
        if got.shape != expected.shape:
            raise ModelError(f"{_baked_batch(interface, batch)}: ONNX Runtime returns {list(got.shape)} and PyTorch {list(expected.shape)}")
        if not np.isfinite(got).all():
            raise ModelError(f"the ONNX of {interface.name} returns NaN or infinity in ONNX Runtime, and PyTorch does not; look at the range of its weights")
        scale = float(np.abs(expected).max()) or 1.0
        differences[batch] = float(np.abs(expected.astype(np.float64) - got).max()) / scale
    return Comparison(differences)


def metrics(exported: bytes, comparison: Comparison) -> dict[str, Any]:
    """Figures of an export: differences by batch, and the ONNX's opset, nodes, parameters, MiB and producer."""
    model = onnx.load_model_from_string(exported)
    return {
        "max_relative_difference": {f"batch_{batch}": difference for batch, difference in comparison.differences.items()},
        "opset_version": next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "nodes": len(model.graph.node),
        "parameters": sum(int(np.prod(weight.dims)) for weight in model.graph.initializer),
        "size_mib": len(exported) / 2**20,
        "producer": f"{model.producer_name} {model.producer_version}",
    }


def require_equal(comparison: Comparison, interface: Model, tolerance: float) -> None:
    """Hold a comparison to export.tolerance.

    Raises:
        ModelError: naming the batch with the largest difference.
    """
    if comparison.largest > tolerance:
        batch = max(comparison.differences, key=lambda size: comparison.differences[size])
        raise ModelError(
            f"PyTorch and ONNX Runtime differ on {interface.name} by {comparison.largest:.1e} of the largest output at batch {batch}, "
            f"over export.tolerance = {tolerance:.1e}; look for operations in {interface.code} that depend on the data or on random numbers, "
            "or raise the tolerance"
        )


def _trace(model: torch.nn.Module, example: torch.Tensor, interface: Model, opset_version: int) -> onnx.ModelProto:
    import torch

    axes = {name: {0: BATCH_AXIS} for name in (interface.input_name, interface.output_name)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, on the exporter that the head of this module gives reasons for
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)  # of a negative Slice in F.pad: it stays in the graph, and is right
        torch.onnx.export(
            model,
            (example,),
            Path(folder) / "model.onnx",
            opset_version=opset_version,
            input_names=[interface.input_name],
            output_names=[interface.output_name],
            dynamic_axes=axes,
            do_constant_folding=True,
            dynamo=False,
        )
        return onnx.load_model(Path(folder) / "model.onnx")


def _random_batch(batch: int, shape: list[int], seed: int) -> Batch:
    return np.random.default_rng([seed, batch]).standard_normal((batch, *shape), dtype=np.float32)


def _run_torch(model: torch.nn.Module, images: Batch, interface: Model) -> Batch:
    import torch

    what = f"{interface.name} ({interface.code})"
    try:
        with torch.inference_mode():
            output = model(torch.from_numpy(images))
    except (RuntimeError, TypeError, ValueError, IndexError) as fault:  # of the user's own code
        raise ModelError(
            f"{what} cannot run on a float32 input {list(images.shape)}: {_first_line(fault)}; model.input_shape must be what the model takes"
        ) from fault
    if not isinstance(output, torch.Tensor):
        raise ModelError(
            f"{what} returns a {type(output).__name__} and must return one tensor; wrap the model so that it returns '{interface.output_name}' alone"
        )
    if output.ndim == 0 or output.shape[0] != len(images):
        raise ModelError(f"{what} returns {list(output.shape)} for a batch of {len(images)}; the first axis of its output must be the batch")
    result: Batch = output.float().numpy()
    if not np.isfinite(result).all():
        raise ModelError(f"{what} returns NaN or infinity on random input in PyTorch itself; look at the weights in {interface.weights}")
    return result


def _baked_batch(interface: Model, batch: int) -> str:
    return (
        f"the ONNX of {interface.name} does not take batch {batch}, as a batch of {TRACED_BATCH} is baked into it; replace sizes that "
        f"{interface.code} computes as Python numbers (`int(x.shape[0])`, `.item()`, `view({TRACED_BATCH}, ...)`) by `x.flatten(1)` or -1"
    )


def _cleaned(model: onnx.ModelProto) -> bytes:
    """Make the file the same on every machine and its weights ready for a quantizer.

    Doc strings and metadata say where the exporting code lay. Where two weights are equal the exporter stores one and puts Identity
    nodes between it and its other users, which hide it from a quantizer and from TensorRT's fusions. A folded weight is called
    `onnx::Conv_114`; it gets the name of its layer, which a report can show.
    """
    graph = model.graph
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    stored = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    copies = [node for node in graph.node if node.op_type == "Identity" and node.input[0] in stored and node.output[0] not in outputs]
    _rename_inputs(graph, {node.output[0]: node.input[0] for node in copies})
    for node in copies:
        graph.node.remove(node)
    named = {
        source: f"{node.name}.{part}"
        for node in reversed(graph.node)  # the first user wins
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        for source, part in zip(node.input[1:], ("weight", "bias"))
        if source in stored and source.startswith("onnx::")
    }
    _rename_inputs(graph, named)
    for tensor in graph.initializer:
        tensor.name = named.get(tensor.name, tensor.name)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:  # the branches of an If and the body of a Loop see these tensors too
                _rename_inputs(attribute.g, names)


def _first_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__
