"""Small graphs around one operator: what stands before it, the operator with its attributes, and an INT8 layer behind
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]
CHANNELS = 4
BATCH = 8
# What the tensor in front of the operator is like: it decides zero points and which nodes a backend fuses.
SIGNED, RELU, CLIP, NEGATIVE, FED, GROUPS = "signed", "relu", "clip", "negative", "fed", "groups"
SOURCES = (SIGNED, RELU, CLIP, NEGATIVE, FED, GROUPS)


@dataclass
class Net:
    """A graph that grows node by node, its weights drawn from one seed."""

    seed: int
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)  # name -> shape, the batch first
    opset: int = 17
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # outputs that are read too

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def input(self, *shape: int) -> str:
        """An input of the network, [BATCH, *shape]."""
        name = f"input{len(self.inputs) or ''}"
        self.inputs[name] = (BATCH, *shape)
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        """A stored tensor."""
        name = f"stored{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(self, *shape: int) -> Array:
        """Numbers for a weight, larger in some channels than in others."""
        values = self.random.normal(size=shape) * self.random.uniform(
            0.3, 1.5, size=shape[:1] + (1,) * (len(shape) - 1)
        )
        return values.astype(np.float32)

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return its first output."""
        made = [f"{operator.lower()}{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), made, f"{operator}_{len(self.nodes)}", **attributes))
        return made[0]

    def conv(self, source: str, sizes: tuple[int, int], rank: int = 2, bias: float = 0.0, group: int = 1) -> str:
        """A convolution of kernel 1 with a bias around `bias`; `sizes`: channels read and made."""
        channels, out = sizes
        weight = self.constant(self.normal(out, channels // group, *(1,) * rank))
        bias_ = self.constant(self.normal(out) * np.float32(0.3) + np.float32(bias))
        return self.node("Conv", [source, weight, bias_], group=group)

    def source(self, kind: str, *shape: int) -> str:
        """A tensor [BATCH, *shape] in front of the operator, as an INT8 layer or the network's input gives it."""
        given = self.input(*shape)
        if kind == FED:
            self.conv(given, (shape[0], CHANNELS), len(shape) - 1)  # so that it is quantized
            return given
        group = shape[0] if kind == GROUPS else 1
        made = self.conv(
            given,
            (shape[0], shape[0]),
            len(shape) - 1,
            -4 * float(np.sqrt(shape[0])) if kind == NEGATIVE else 0.0,
            group,
        )
        if kind == RELU:
            return self.node("Relu", [made])
        if kind == CLIP:
            return self.node("Clip", [made, self.constant(np.float32(0)), self.constant(np.float32(2))])
        return made

    def read(self, tensor: str) -> str:
        """An INT8 layer that reads a tensor of whatever shape."""
        shape = self.shape(tensor)
        if len(shape) >= 3 and len(shape) <= 5:
            return self.conv(tensor, (shape[1], CHANNELS), len(shape) - 2)
        if len(shape) < 2:
            tensor = self.node("Unsqueeze", [tensor, self.constant(np.array([1], np.int64))])
            shape = (*shape, 1)
        return self.node("MatMul", [tensor, self.constant(self.normal(shape[-1], CHANNELS))])

    def finish(self, tensor: str, behind: str) -> None:
        """Put behind a tensor what reads it; raises ONNX Runtime's own error if the graph does not run in float."""
        for _ in range({"two layers": 2, "nothing": 0}.get(behind, 1)):
            self.read(tensor)
        if behind == "layer and output":
            self.kept.append(tensor)
        run(self.model(), self.feeds())

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Of a tensor, as ONNX Runtime makes it."""
        return tuple(run(self.model([tensor]), self.feeds())[0].shape)

    def feeds(self, seed: int = 0) -> dict[str, Array]:
        """Images for all inputs."""
        random = np.random.default_rng([self.seed, seed])
        return {name: random.normal(size=shape).astype(np.float32) for name, shape in self.inputs.items()}

    def model(self, outputs: Optional[Sequence[str]] = None) -> ModelProto:
        """The graph with these outputs; without any, all that nobody reads."""
        read = {tensor for node in self.nodes for tensor in node.input}
        ends = (
            list(outputs)
            if outputs
            else [*self.kept, *(node.output[0] for node in self.nodes if node.output[0] not in read)]
        )
        used = [tensor for tensor in self.weights if tensor.name in read]
        graph = helper.make_graph(
            self.nodes,
            "operator",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape[1:]])
                for name, shape in self.inputs.items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in ends],
            used,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(made)
        types = {value.name: value for value in [*inferred.graph.value_info, *inferred.graph.output]}
        del made.graph.output[:]
        made.graph.output.extend(
            types.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends
        )
        return made


def run(model: ModelProto, feeds: dict[str, Array]) -> list[npt.NDArray[Any]]:
    """All outputs, as the graph says it, with nothing fused on the way."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[npt.NDArray[Any]] = session.run(None, feeds)
    return found
