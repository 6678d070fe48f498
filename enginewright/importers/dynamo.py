"""The exporter of torch.export: a graph of operators that is captured without running Python again (`export.exporter`).

It takes models that a trace would freeze, such as loops over a named axis. It writes opset 18 or later, and
a lower export.opset_version is reached by ONNX's version converter, or refused.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from enginewright.graph.names import inner_graphs
from enginewright.graph.opset import at_opset
from enginewright.interface import Axes, Interface

if TYPE_CHECKING:
    import onnx
    import torch

SUMMARY = "## Exception summary"
ANSI = re.compile("\x1b\\[[0-9;]*m")
LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")  # speak of packages that are not here, and of each rewriting


def exported(
    network: torch.nn.Module, arguments: Sequence[torch.Tensor], interface: Interface, opset_version: int, axes: Axes
) -> onnx.ModelProto:
    """Export a network.

    Args:
        network: in evaluation mode; returns a tensor or a flat tuple of them.
        arguments: of `forward`, at an example of each axis.
        interface: names of inputs and outputs; an axis with a name is dynamic.
        opset_version: that the file is of.
        axes: the range of each named axis, which torch.export holds the network to.

    Raises:
        ModelError: the converter does not reach the opset.
        torch.onnx.errors.OnnxExporterError: the network has no ONNX form, or fixes an axis that has a name.
    """
    import torch

    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                tuple(arguments),
                opset_version=opset_version,
                input_names=[spec.name for spec in interface.inputs],
                output_names=[spec.name for spec in interface.outputs],
                dynamic_shapes=tuple(_dynamic(interface, axes)),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as fault:
        raise torch.onnx.errors.OnnxExporterError(_reason(str(fault))) from fault
    assert program is not None  # it is, where no file is named
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    _name_axes(model, interface)
    return at_opset(model, opset_version, "what export.exporter dynamo wrote")


def _reason(said: str) -> str:
    """What stands behind PyTorch's advice, in one line."""
    lines = ANSI.sub("", said.partition(SUMMARY)[2] or said).split("\n")
    first = next((line for line in map(str.strip, lines) if line), said)
    return first.partition("'>: ")[2] or first  # the exception's class stands before it


def _dynamic(interface: Interface, axes: Axes) -> Iterator[dict[int, Any]]:
    """The named axes of each input; those of one name are one dimension."""
    import torch

    ranges = {name: axes[name] for name in interface.axes() if axes[name].min < axes[name].max}
    sizes = {name: torch.export.Dim(name, min=its.min, max=its.max) for name, its in ranges.items()}
    for spec in interface.inputs:
        yield {place: sizes[axis] for place, axis in enumerate(spec.shape) if axis in sizes}


def _strip(model: onnx.ModelProto) -> None:
    """Drop what says where the exporting code lay, so that equal models give equal bytes."""
    holders: list[Any] = [model, *model.functions]
    nodes = [node for function in model.functions for node in function.node]
    for graph in _graphs(model.graph):
        holders += [graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
        nodes += graph.node
    for holder in (*holders, *nodes):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _graphs(inner)


def _name_axes(model: onnx.ModelProto, interface: Interface) -> None:
    """Give the axes the names of the interface; the exporter writes expressions for outputs, such as `height//2`."""
    specs = (*interface.inputs, *interface.outputs)
    for value, spec in zip((*model.graph.input, *model.graph.output), specs):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, spec.shape):
            if isinstance(axis, str):
                dimension.dim_param = axis


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's remarks on its own deprecations, and on packages that are not installed."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
