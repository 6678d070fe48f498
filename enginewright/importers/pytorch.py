"""PyTorch to one ONNX file with a dynamic batch, and a comparison of the two on real images.

The TorchScript exporter (`dynamo=False`) is used for every opset that the configuration allows: the default exporter of
PyTorch 2.9 and later writes opset 18 and converts down, and TensorRT 8.6 refuses what comes out
(github.com/NVIDIA/TensorRT/issues/3934).
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt
import onnx

from enginewright.config import Export, Model
from enginewright.errors import ModelError
from enginewright.runtimes.onnxruntime.simplify import WRONG_FUSIONS, simplified
from enginewright.tasks import get_task
from enginewright.tasks.base import interface_of

if TYPE_CHECKING:
    import onnxruntime
    import torch

BATCHES = (1, 2, 7)  # 1 hides a batch that is baked in, 2 is the batch of the example that is traced, 7 is neither
TRACED_BATCH = 2  # not 1: a trace may treat an axis of one as broadcast (github.com/huggingface/optimum/issues/2219)
BATCH_AXIS = "batch"
ONE_FILE_LIMIT = 2**31 - 1  # bytes of a protobuf message

# Beyond that share of its largest output, a model in float32 says little, and no comparison can pass it.
MOST_UNSTABLE = 0.01
# ONNX Runtime sums in another order than PyTorch, so its rounding errors are of the same size and not the same.
AS_LARGE = 3.0

Batch = npt.NDArray[np.float32]
Answers = tuple[npt.NDArray[Any], ...]  # an array for each output


@dataclass(frozen=True)
class Judged:
    """How far both are from PyTorch in float64, relative to its largest output."""

    pytorch: float
    onnxruntime: float

    def explains(self, tolerance: float) -> bool:
        """Whether ONNX Runtime is as right as PyTorch in float32, which is itself beyond half of the tolerance."""
        return tolerance / 2 < self.pytorch <= MOST_UNSTABLE and self.onnxruntime <= AS_LARGE * self.pytorch


@dataclass(frozen=True)
class Comparison:
    """PyTorch against ONNX Runtime on the same batches."""

    differences: Mapping[int, float]  # batch size -> largest |PyTorch - ONNX Runtime| / largest |PyTorch|
    # Where PyTorch's own float32 is that far from float64, ONNX Runtime is judged against float64: batch size -> (both,
    # from float64).
    float64: Mapping[int, Judged] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest relative difference over all batch sizes."""
        return max(self.differences.values())

    def excess(self, tolerance: float) -> Optional[int]:
        """The batch size with the largest difference that no instability of float32 explains; None if there is none."""
        beyond = {
            batch: difference
            for batch, difference in self.differences.items()
            if difference > tolerance and not (batch in self.float64 and self.float64[batch].explains(tolerance))
        }
        return max(beyond, key=lambda batch: beyond[batch]) if beyond else None


def to_onnx(model: torch.nn.Module, interface: Model, settings: Export) -> bytes:
    """Trace a model and return it as one serialized ONNX file, the same bytes for the same model, weights and versions.

    Constants and padding are folded, BatchNormalization is fused into the convolution before it, and the first axis of
    input and output is the symbolic dimension `batch`.

    Args:
        model: from [N, *interface.input_shape] float32 to one tensor [N, ...], or for the task `outputs` several; it is
            put in evaluation mode.
        interface: names of input and output, and the input's shape without the batch.
        settings: the opset.

    Raises:
        ModelError: the model is over 2 GiB, cannot run on such an input, gives what model.task does not judge, or has
            no ONNX form.
    """
    import torch

    model.eval()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > ONE_FILE_LIMIT:
        raise ModelError(
            f"{interface.name} holds {size / 2**30:.1f} GiB of weights and one ONNX file takes 2 GiB at most; use a"
            " smaller model"
        )
    example = torch.from_numpy(_random_batch(TRACED_BATCH, interface.input_shape, seed=0))
    answered = _run_torch(
        model, example.numpy(), interface
    )  # a fault of the model is told apart from one of the exporter
    names = output_names(interface, len(answered))
    try:
        return _cleaned(simplified(_trace(model, example, interface, names, settings.opset_version)))
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as fault:
        later = ", or raise export.opset_version" if "was added in version" in _first_line(fault) else ""
        raise ModelError(
            f"{interface.name} has no ONNX form at opset {settings.opset_version}: {_first_line(fault)}; replace that"
            f" operation in {interface.code}{later}"
        ) from fault


def output_names(interface: Model, count: int) -> list[str]:
    """The names of so many outputs: model.output_name, and further ones with a number behind it, from 2 on."""
    return [interface.output_name, *(f"{interface.output_name}_{number}" for number in range(2, count + 1))]


def compare(
    model: torch.nn.Module,
    exported: bytes,
    interface: Model,
    seed: int,
    *,
    images: Optional[Batch] = None,
    tolerance: float = float("inf"),
) -> Comparison:
    """Run PyTorch and ONNX Runtime (CPU) on the same BATCHES of images, [N, *input_shape] float32.

    Args:
        model: what `exported` was made of; it is put in evaluation mode.
        exported: the ONNX.
        interface: names of input and output, and the input's shape.
        seed: of standard normal batches, where there are no images.
        images: preprocessed images of the data set, [n, *input_shape]; a larger batch repeats them.
        tolerance: where the two differ by more, PyTorch in float64 judges both, if the model runs in it and repeats its
            answers.

    Raises:
        ModelError: the ONNX holds a fixed batch, or one of the two gives NaN or infinity.
    """
    session = _session(exported, interface)
    model.eval()
    differences: dict[int, float] = {}
    judged: dict[int, Judged] = {}
    for batch in BATCHES:
        fed = (
            _random_batch(batch, interface.input_shape, seed)
            if images is None
            else images[np.arange(batch) % len(images)]
        )
        expected = _finite(_run_torch(model, fed, interface), interface, images is not None)
        got = _run_onnx(session, fed, interface, expected)
        differences[batch] = _farthest(expected, got)
        if differences[batch] > tolerance and (exact := _in_float64(model, fed, expected)) is not None:
            judged[batch] = Judged(_farthest(exact, expected), _farthest(exact, got))
    return Comparison(differences, judged)


def _session(exported: bytes, interface: Model) -> onnxruntime.InferenceSession:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it has to say comes back as an exception
    try:
        return onnxruntime.InferenceSession(
            exported, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(WRONG_FUSIONS)
        )
    except (faults.Fail, faults.InvalidGraph, faults.NotImplemented) as fault:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the ONNX of {interface.name}: {_first_line(fault)}; lower"
            " export.opset_version or upgrade it"
        ) from fault


def _run_onnx(session: onnxruntime.InferenceSession, fed: Batch, interface: Model, expected: Answers) -> Answers:
    """What ONNX Runtime answers, in the shapes of `expected` and finite. Raises ModelError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    try:
        got: Answers = tuple(session.run(output_names(interface, len(expected)), {interface.input_name: fed}))
    except (faults.Fail, faults.InvalidArgument, faults.RuntimeException) as fault:
        raise ModelError(f"{_baked_batch(interface, len(fed))}: {_first_line(fault)}") from fault
    for its, wanted in zip(got, expected):
        if its.shape != wanted.shape:
            raise ModelError(
                f"{_baked_batch(interface, len(fed))}: ONNX Runtime returns {list(its.shape)} and PyTorch"
                f" {list(wanted.shape)}"
            )
    if not all(np.isfinite(its).all() for its in got):
        raise ModelError(
            f"the ONNX of {interface.name} returns NaN or infinity in ONNX Runtime, and PyTorch does not; look at the"
            " range of its weights"
        )
    return got


def _distance(expected: npt.NDArray[np.floating[Any]], got: npt.NDArray[np.floating[Any]]) -> float:
    """The largest difference, relative to the largest value that is expected."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return float(np.abs(expected.astype(np.float64) - got.astype(np.float64)).max(initial=0.0)) / scale


def _farthest(expected: Answers, got: Answers) -> float:
    """The largest distance of an output, each relative to its own values."""
    return max(_distance(wanted, its) for wanted, its in zip(expected, got))


def _in_float64(model: torch.nn.Module, fed: Batch, float32: Answers) -> Optional[Answers]:
    """What PyTorch answers in float64; None where the model draws random numbers or does not run in it."""
    import torch

    before = torch.get_default_dtype()
    try:
        with torch.no_grad():
            repeated = [tensor.float().numpy() for tensor in _tensors(model(torch.from_numpy(fed)))]
            if not all(np.array_equal(one, other) for one, other in zip(repeated, float32)):
                return None
            torch.set_default_dtype(torch.float64)  # of what `forward` makes itself
            answer = copy.deepcopy(model).double()(torch.from_numpy(fed).double())
    except (RuntimeError, TypeError, ValueError):  # code that insists on float32, or a module that cannot be copied
        return None
    finally:
        torch.set_default_dtype(before)
    exact: Answers = tuple(tensor.double().numpy() for tensor in _tensors(answer))
    return exact if all(np.isfinite(its).all() for its in exact) else None


def _tensors(output: Any) -> tuple[torch.Tensor, ...]:
    """One tensor, or a tuple or list of them."""
    return tuple(output) if isinstance(output, (tuple, list)) else (output,)


def require_task(model: torch.nn.Module, interface: Model) -> None:
    """Hold what a model answers to what model.task judges, before anything is built from it.

    Raises:
        ModelError: naming both shapes, and the task that takes any.
    """
    answered = _run_torch(model.eval(), _random_batch(TRACED_BATCH, interface.input_shape, seed=0), interface)
    outputs = dict(zip(output_names(interface, len(answered)), answered))
    get_task(interface.task).check(interface_of(outputs), f"{interface.name} ({interface.code})")


def metrics(exported: bytes, comparison: Comparison) -> dict[str, Any]:
    """Figures of an export: differences by batch, and the ONNX's opset, nodes, parameters, MiB and producer."""
    model = onnx.load_model_from_string(exported)
    return {
        "max_relative_difference": {
            f"batch_{batch}": difference for batch, difference in comparison.differences.items()
        },
        **{
            f"{name}_from_float64": {
                f"batch_{batch}": getattr(judged, name) for batch, judged in comparison.float64.items()
            }
            for name in ("pytorch", "onnxruntime")
            if comparison.float64
        },
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
    batch = comparison.excess(tolerance)
    if batch is None:
        return
    judged = comparison.float64.get(batch)
    what = (
        f"PyTorch and ONNX Runtime differ on {interface.name} by {comparison.differences[batch]:.1e} of the largest"
        f" output at batch {batch}, over export.tolerance = {tolerance:.1e}"
    )
    if judged is not None and judged.pytorch > tolerance / 2:
        raise ModelError(
            f"{what}; PyTorch in float32 is itself {judged.pytorch:.1e} from float64 and ONNX Runtime"
            f" {judged.onnxruntime:.1e}: the model is unstable in float32; rescale what it subtracts or divides, or"
            " raise the tolerance"
        )
    raise ModelError(
        f"{what}; look for operations in {interface.code} that depend on the data or on random numbers, or raise the"
        " tolerance"
    )


def _trace(
    model: torch.nn.Module, example: torch.Tensor, interface: Model, outputs: list[str], opset_version: int
) -> onnx.ModelProto:
    import torch

    axes = {name: {0: BATCH_AXIS} for name in (interface.input_name, *outputs)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # PyTorch's, on the exporter that the head of this module gives reasons for
        warnings.filterwarnings(
            "ignore", "Constant folding", UserWarning
        )  # of a negative Slice in F.pad: it stays in the graph, and is right
        torch.onnx.export(
            model,
            (example,),
            Path(folder) / "model.onnx",
            opset_version=opset_version,
            input_names=[interface.input_name],
            output_names=outputs,
            dynamic_axes=axes,
            do_constant_folding=True,
            dynamo=False,
        )
        return onnx.load_model(Path(folder) / "model.onnx")


def _random_batch(batch: int, shape: list[int], seed: int) -> Batch:
    return np.random.default_rng([seed, batch]).standard_normal((batch, *shape), dtype=np.float32)


def _run_torch(model: torch.nn.Module, images: Batch, interface: Model) -> Answers:
    import torch

    what = f"{interface.name} ({interface.code})"
    try:
        with torch.no_grad():  # what a model caches in inference mode cannot be traced afterwards
            output = model(torch.from_numpy(images))
    except (RuntimeError, TypeError, ValueError, IndexError) as fault:  # of the user's own code
        raise ModelError(
            f"{what} cannot run on a float32 input {list(images.shape)}: {_first_line(fault)}; model.input_shape must"
            " be what the model takes"
        ) from fault
    several = get_task(interface.task).every_output
    tensors = _tensors(output) if several else (output,)
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        alone = "return a tensor, or a tuple of tensors" if several else "return one tensor"
        raise ModelError(
            f"{what} returns a {type(output).__name__} and must {alone}; wrap the model so that it returns"
            f" '{interface.output_name}' alone"
            + ("" if several else ", or set model.task=outputs, which judges every tensor of a tuple")
        )
    for tensor in tensors:
        if tensor.ndim == 0 or tensor.shape[0] != len(images):
            raise ModelError(
                f"{what} returns {list(tensor.shape)} for a batch of {len(images)}; the first axis of its output must"
                " be the batch"
            )
    return tuple(tensor.float().numpy() for tensor in tensors)


def _finite(answer: Answers, interface: Model, of_images: bool) -> Answers:
    if not all(np.isfinite(its).all() for its in answer):
        fed, else_ = ("images of the data set", " and at data.preprocessing") if of_images else ("random input", "")
        raise ModelError(
            f"{interface.name} ({interface.code}) returns NaN or infinity on {fed} in PyTorch itself; look at the"
            f" weights in {interface.weights}{else_}"
        )
    return answer


def _baked_batch(interface: Model, batch: int) -> str:
    return (
        f"the ONNX of {interface.name} does not take batch {batch}, as a batch of {TRACED_BATCH} is baked into it;"
        f" replace sizes that {interface.code} computes as Python numbers (`int(x.shape[0])`, `.item()`,"
        f" `view({TRACED_BATCH}, ...)`) by `x.flatten(1)` or -1"
    )


def _cleaned(model: onnx.ModelProto) -> bytes:
    """Make the file the same on every machine and its weights ready for a quantizer.

    Doc strings and metadata say where the exporting code lay. Where two weights are equal the exporter stores one and
    puts Identity nodes between it and its other users, which hide it from a quantizer and from TensorRT's fusions. A
    folded weight is called `onnx::Conv_114`; it gets the name of its layer, which a report can show.
    """
    graph = model.graph
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    stored = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    copies = [
        node
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in stored and node.output[0] not in outputs
    ]
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
            if (
                attribute.type == onnx.AttributeProto.GRAPH
            ):  # the branches of an If and the body of a Loop see these tensors too
                _rename_inputs(attribute.g, names)


def _first_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__
