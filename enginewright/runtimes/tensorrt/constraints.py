"""Layers that an INT8 engine computes in FP16: per-layer precision constraints, where the library has builder flags for
precision at all.

Source: NVIDIA TensorRT Developer Guide, "Layer-level control of precision". With explicit precision, Q/DQ nodes left
out say the same.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from enginewright.runtimes.tensorrt.bindings import Bindings

if TYPE_CHECKING:
    import tensorrt


def keep_in_half(
    trt: Bindings, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig, nodes: Collection[str]
) -> list[str]:
    """Oblige the builder to compute the layers of these ONNX nodes in FP16.

    Args:
        trt: a library with builder flags for precision.
        network: as the parser made it, which gives layers the names of their nodes.
        config: with the flags INT8 and FP16.
        nodes: names of ONNX nodes.

    Returns:
        A warning for the nodes that became no layer of their name.
    """
    missing, floats = set(nodes), (trt.DataType.FLOAT, trt.DataType.HALF)
    for index in range(network.num_layers):
        layer: Any = network.get_layer(
            index
        )  # typed by the stubs, mypy takes what follows is_network_output for unreachable
        if layer.name not in nodes:
            continue
        missing.discard(layer.name)
        if layer.get_output(0).dtype not in floats:
            continue  # of shapes and sizes: 8.6.0 refuses the network
        layer.precision = trt.DataType.HALF
        for output in range(layer.num_outputs):
            tensor = layer.get_output(output)
            if tensor.dtype not in floats:
                continue  # a TopK's places
            if not tensor.is_network_output:  # these keep the type that the application reads
                layer.set_output_type(output, trt.DataType.HALF)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    return (
        [f"TensorRT's parser made no layer with the name of {', '.join(sorted(missing))}: FP16 is not assured there"]
        if missing
        else []
    )
