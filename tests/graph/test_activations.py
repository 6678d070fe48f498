"""Which tensors want a scale."""

from __future__ import annotations

import onnx
from onnx import ModelProto

from enginewright.graph.activations import activations

TENSORS = [
    "input",
    "conv0",
    "relu0",
    "conv1",
    "relu1",
    "conv2",
    "sum",
    "relu2",
    "pool",
    "conv3",
    "mean",
    "flat",
    "logits",
]


def test_constants_and_shapes_are_no_activations(network: ModelProto) -> None:
    network.graph.node.append(onnx.helper.make_node("Shape", ["input"], ["shape"]))
    assert activations(network) == TENSORS
