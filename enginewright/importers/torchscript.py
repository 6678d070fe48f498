"""The TorchScript exporter: a trace of one run of the network.

It is the default, as it writes every opset that the configuration allows. The exporter of torch.export (`dynamo`)
writes opset 18 and converts down, and TensorRT 8.6 refuses what comes out
(github.com/NVIDIA/TensorRT/issues/3934). Symbolics that the model's code registers
(`torch.onnx.register_custom_op_symbolic`) are used.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enginewright.graph import stored
from enginewright.interface import Axes, Interface

if TYPE_CHECKING:
    import onnx
    import torch


def exported(
    network: torch.nn.Module, arguments: Sequence[torch.Tensor], interface: Interface, opset_version: int, axes: Axes
) -> onnx.ModelProto:
    """Trace a network. See `dynamo.exported`; `axes` are not asked for, as a trace holds for every size.

    Raises:
        torch.onnx.errors.OnnxExporterError: the network has no ONNX form.
    """
    import torch

    del axes
    inputs, outputs = ([spec.name for spec in specs] for specs in (interface.inputs, interface.outputs))
    named = {
        spec.name: {place: axis for place, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in (*interface.inputs, *interface.outputs)
    }
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # PyTorch's, on the exporter that the head of this module gives reasons for
        warnings.simplefilter("ignore", DeprecationWarning)
        # of a negative Slice in F.pad: it stays in the graph, and is right
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            network,
            tuple(arguments),
            Path(folder) / "model.onnx",
            opset_version=opset_version,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=named,
            do_constant_folding=True,
            dynamo=False,
        )
        found = stored.read_kept(Path(folder) / "model.onnx")
    _name_axes(found, interface)
    return found


def _name_axes(model: onnx.ModelProto, interface: Interface) -> None:
    """Name the outputs' axes as the interface does, where the exporter made names up, such as Reshapelogits_dim_1."""
    for value, spec in zip(model.graph.output, interface.outputs):
        for axis, known in zip(value.type.tensor_type.shape.dim, spec.shape):
            if isinstance(known, int) and not axis.HasField("dim_value"):
                axis.dim_value = known
            elif isinstance(known, str) and axis.dim_param and axis.dim_param != known:
                axis.dim_param = known
