"""The file that the pipeline keeps: folded, fused, and the same bytes for the same model on every machine."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from enginewright.graph.licence import KEPT
from enginewright.runtimes.onnxruntime.simplify import simplified


def normalized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model as the file that the pipeline keeps of it (`enginewright.graph.stored`), ready for a quantizer.

    Constants and padding are folded, BatchNormalization is fused into the convolution before it.
    """
    return _cleaned(simplified(model))


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make the file the same on every machine and its weights ready for a quantizer.

    Doc strings and metadata say where the exporting code lay; of them, a licence and an author stay. Where two weights
    are equal the exporter stores one and puts Identity nodes between it and its other users, which hide it from a
    quantizer and from TensorRT's fusions. A folded weight is called `onnx::Conv_114`; it gets the name of its layer,
    which a report can show.
    """
    graph = model.graph
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key.strip().lower() in KEPT}
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    onnx.helper.set_model_props(model, kept)
    stored = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    copies = [
        node
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in stored and node.output[0] not in outputs
    ]
    _rename_inputs(graph, {node.output[0]: node.input[0] for node in copies})
    if copies:
        gone = {node.output[0] for node in copies}
        left = [node for node in graph.node if gone.isdisjoint(node.output)]
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
        del graph.node[:]
        graph.node.extend(nodes)
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
    return model


def _rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if (
                attribute.type == onnx.AttributeProto.GRAPH
            ):  # the branches of an If and the body of a Loop see these tensors too
                _rename_inputs(attribute.g, names)
