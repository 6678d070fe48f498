"""FP32 ONNX to FP16 ONNX, for every backend that takes its precision from the model itself."""

from __future__ import annotations

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

QDQ = ("QuantizeLinear", "DequantizeLinear")
FP16_MAX = 65504.0


def to_fp16(model: ModelProto) -> ModelProto:
    """Return a copy that computes in FP16, with float32 inputs and outputs; a model with Q/DQ nodes keeps float32 scales.

    By onnxconverter-common, whose result the full ONNX checker takes. It turns scales of Q/DQ nodes to FP16, which ONNX forbids before
    opset 19 while TensorRT 8.6 parses 17 at most, and crashes if told to leave these nodes out; so they are put right afterwards: float32
    scales and weights, a Cast to float32 before each Q, one to FP16 behind each DQ.

    Warns:
        UserWarning: from the converter, for each weight beyond the range of FP16 (it is clipped).
    """
    from onnxconverter_common.float16 import convert_float_to_float16

    source = ModelProto()
    source.CopyFrom(model)  # the converter edits what it is given
    # Its defaults clip at 10,000 and lift everything under 1e-7 to 1e-7; rounding to the nearest FP16 value needs neither.
    result: ModelProto = convert_float_to_float16(source, keep_io_types=True, min_positive_val=0.0, max_finite_val=FP16_MAX)
    for tensor in result.graph.initializer:  # it packs two bytes into an int32 varint of three or more
        if tensor.data_type == TensorProto.FLOAT16 and not tensor.raw_data:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    if any(node.op_type in QDQ for node in result.graph.node):
        _restore_qdq(result.graph, model.graph)
    return result


def _restore_qdq(graph: GraphProto, original: GraphProto) -> None:
    """Give Q/DQ nodes their float32 constants back and Casts towards their FP16 neighbours."""
    float32 = {tensor.name: tensor for tensor in original.initializer if tensor.data_type == TensorProto.FLOAT}
    # The converter casts graph inputs to FP16: a Q behind that reads the float32 input itself.
    inputs = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in {value.name for value in graph.input}}
    restored: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type not in QDQ:
            nodes.append(node)
            continue
        first = 0 if node.op_type == "QuantizeLinear" else 1
        restored.update(tensor for tensor in node.input[first:] if tensor in float32)
        if node.op_type == "QuantizeLinear" and node.input[0] in inputs:
            node.input[0] = inputs[node.input[0]]
        elif node.op_type == "QuantizeLinear" and node.input[0] not in float32:
            nodes.append(_cast(node.input[0], f"{node.input[0]}_for_{node.output[0]}", TensorProto.FLOAT))
            node.input[0] = nodes[-1].output[0]
        nodes.append(node)
        if node.op_type == "DequantizeLinear":
            wanted = node.output[0]
            node.output[0] = f"{wanted}_float32"
            nodes.append(_cast(node.output[0], wanted, TensorProto.FLOAT16))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    for tensor in graph.initializer:
        if tensor.name in restored:
            tensor.CopyFrom(float32[tensor.name])


def _cast(source: str, result: str, data_type: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}_Cast", to=data_type)
