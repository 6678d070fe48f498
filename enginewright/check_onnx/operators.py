"""What each node is: outside of the standard, refused by TensorRT's parser, left unfused, or in training mode.

The lists are those of the "Supported ONNX Operators" page of onnx-tensorrt (docs/operators.md) for TensorRT 10.15. The
parser of TensorRT-RTX 1.7 refuses every operator of `UNSUPPORTED` too. Where a parser is installed, its answer stands
beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from enginewright.check_onnx.custom import NOTHING, REMEDY, Declared
from enginewright.check_onnx.origin import PAIR, Origin
from enginewright.check_onnx.reading import STANDARD_DOMAINS, Node, walk
from enginewright.check_onnx.report import BatchNormalization, Finding, Severity
from enginewright.graph.fold import BATCH_NORMALIZATION, foldable_into, why_unfoldable
from enginewright.graph.index import Graph

_SEQUENCES = "keep tensors instead of lists of tensors in `forward` (torch.stack, torch.cat)"
_STRINGS = "do this outside of the model, before inference"
_RANDOM = "the model must not draw random numbers in inference: remove it from `forward`"
_BITS = "compute it with Mul, Div and Mod, or outside of the model"
QUANTIZED = "give the FP32 model: calibrate and build_int8 quantize it"
_ELSEWHERE = "make the file without it: change the model that it was made of, or cut the graph before this node"
_PYTORCH_WORDS = ("forward", "torch", "model.eval", "PyTorch", "max_pool", "interpolate", "export")
_LOSS = "export the network without its loss"

# Operators that no TensorRT parser takes -> what to do about it.
UNSUPPORTED = {
    "AffineGrid": (
        "compute the grid outside of the model, or export at an opset below 20, where it becomes simpler operators"
    ),
    "Bernoulli": _RANDOM,
    "BitShift": _BITS,
    "BitwiseAnd": _BITS,
    "BitwiseNot": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "CenterCropPad": "crop with slices (Slice) and torch.nn.functional.pad (Pad)",
    "Col2Im": "replace torch.nn.Fold by ConvTranspose or reshapes",
    "Compress": "replace a boolean mask by torch.where, which keeps the shape",
    "ConcatFromSequence": _SEQUENCES,
    "ConvInteger": QUANTIZED,
    "DFT": "compute the transform outside of the model, or as a product with a constant matrix",
    "Det": "compute the determinant outside of the model",
    "DynamicQuantizeLinear": QUANTIZED,
    "ImageDecoder": "decode images before inference",
    "MatMulInteger": QUANTIZED,
    "MaxRoiPool": "use RoiAlign",
    "MaxUnpool": "upsample with Resize or ConvTranspose, which need no indices",
    "MelWeightMatrix": "store the matrix as a constant: register it as a buffer",
    "Multinomial": _RANDOM,
    "NegativeLogLikelihoodLoss": _LOSS,
    "Optional": "make the input of `forward` a tensor that is always given",
    "OptionalGetElement": "make the input of `forward` a tensor that is always given",
    "OptionalHasElement": "make the input of `forward` a tensor that is always given",
    "QLinearConv": QUANTIZED,
    "QLinearMatMul": QUANTIZED,
    "RegexFullMatch": _STRINGS,
    "SequenceAt": _SEQUENCES,
    "SequenceConstruct": _SEQUENCES,
    "SequenceEmpty": _SEQUENCES,
    "SequenceErase": _SEQUENCES,
    "SequenceInsert": _SEQUENCES,
    "SequenceLength": _SEQUENCES,
    "SequenceMap": _SEQUENCES,
    "SoftmaxCrossEntropyLoss": _LOSS,
    "SplitToSequence": "use torch.split with constant sizes, which becomes Split",
    "StringConcat": _STRINGS,
    "StringNormalizer": _STRINGS,
    "StringSplit": _STRINGS,
    "TfIdfVectorizer": _STRINGS,
    "Unique": "its output's shape depends on the data: do this after inference, on the host",
}

UNREAD = ("sparse_value", "value_string", "value_strings")  # of a Constant

# Operators that are taken with a restriction worth a look -> the restriction.
_NOT_IN_8_5 = "TensorRT 8.5 does not have it, 10.15 does"
RESTRICTED = {
    **dict.fromkeys(
        ("BlackmanWindow", "HammingWindow", "HannWindow", "Hardmax", "IsInf", "LayerNormalization", "STFT"), _NOT_IN_8_5
    ),
    "DeformConv": "it is a plugin that TensorRT has from 10 on and TensorRT-RTX has not",
    "If": "both branches must give outputs of the same rank",
    "Loop": "carried tensors must keep their shape, and what it collects must have a fixed length",
    "NonMaxSuppression": (
        "the number of its boxes depends on the data, so the engine's output has no shape before it ran"
    ),
    "NonZero": "its output's shape depends on the data, so the engine's output has no shape before it ran",
    "RandomNormal": "its seed is ignored, so engines do not repeat their results",
    "RandomNormalLike": "its seed is ignored, so engines do not repeat their results",
    "RandomUniform": "its seed is ignored, so engines do not repeat their results",
    "RandomUniformLike": "its seed is ignored, so engines do not repeat their results",
    "Scan": "carried tensors must keep their shape",
}

_DOMAINS = {
    "com.microsoft": (
        "only ONNX Runtime has it: give the model as exported by PyTorch, not one optimized by ONNX Runtime"
    ),
    "ai.onnx.ml": "it is classical machine learning and no TensorRT parser has it: do this outside of the model",
    "ai.onnx.preview.training": "it is for training: export the model for inference",
    "ai.onnx.training": "it is for training: export the model for inference",
    "org.pytorch.aten": (
        "it is PyTorch's own operator, which the exporter left as it is: replace it in `forward` by one with an ONNX"
        " form"
    ),
    "aten": (
        "it is PyTorch's own operator, which the exporter left as it is: replace it in `forward` by one with an ONNX"
        " form"
    ),
}


def findings(model: onnx.ModelProto, origin: Origin, known: Declared = NOTHING) -> Iterator[Finding]:
    """What there is to say about the nodes of a model, in their order; `known` brings custom operators."""
    local = {(function.domain, function.name) for function in model.functions}
    constants = Graph(model)
    for node in walk(model.graph):
        if (node.proto.domain, node.proto.op_type) in local:
            continue
        yield from _unknown(node, origin, known)
        if node.proto.domain not in STANDARD_DOMAINS:
            continue
        yield from _tensorrt(node, origin)
        yield from _training(node, constants, origin)
    yield from map(_batch_normalization, batch_normalizations(model))


def batch_normalizations(model: onnx.ModelProto) -> list[BatchNormalization]:
    """Every BatchNormalization that the exporter left, in stored order: what INT8 builds (graph/fold.py) do with
    it.
    """
    graph, found = Graph(model), []
    for node in walk(model.graph):
        if (
            node.proto.op_type == BATCH_NORMALIZATION
            and node.proto.domain in STANDARD_DOMAINS
            and node.proto.output
            and len(node.proto.input) == 5
        ):
            why = why_unfoldable(graph, node.proto)
            found.append(BatchNormalization(node.name, foldable_into(graph, node.proto) if why is None else None, why))
    return found


def _unknown(node: Node, origin: Origin, known: Declared) -> Iterator[Finding]:
    proto = node.proto
    if proto.domain not in STANDARD_DOMAINS and known.any:
        yield known.finding(node)
    elif proto.domain not in STANDARD_DOMAINS:
        remedy = (
            QUANTIZED
            if origin.quantized and proto.domain == "com.microsoft"
            else _in_words(_DOMAINS.get(proto.domain, REMEDY), origin)
        )
        yield Finding(
            Severity.fail,
            f"{node} is an operator of the domain '{proto.domain}', outside of standard ONNX",
            remedy,
            node.name,
        )
    elif not onnx.defs.has(proto.op_type):
        yield Finding(
            Severity.fail,
            f"{node} is no ONNX operator",
            "if it is a TensorRT plugin, give the node a domain of its own, such as trt, and name the plugin in"
            " model.plugins; else replace it by standard operators, or cut the model before it",
            node.name,
        )


def _tensorrt(node: Node, origin: Origin) -> Iterator[Finding]:
    operator, outputs = node.proto.op_type, node.proto.output
    if operator in UNSUPPORTED:
        yield Finding(
            Severity.fail, f"{node} is not supported by TensorRT", _in_words(UNSUPPORTED[operator], origin), node.name
        )
    elif operator in RESTRICTED:
        what = f"{node} is restricted in TensorRT: {RESTRICTED[operator]}"
        yield Finding(Severity.warning, what, "replace it if the build refuses it or the accuracy suffers", node.name)
    elif operator == "MaxPool" and len(outputs) > 1 and outputs[1]:
        remedy = _in_words("call max_pool without return_indices", origin)
        yield Finding(Severity.fail, f"{node} returns Indices, which TensorRT does not support", remedy, node.name)
    elif operator in ("MaxPool", "AveragePool", "LpPool") and any(
        size != 1 for size in _attribute(node, "dilations", ())
    ):
        yield Finding(
            Severity.fail,
            f"{node} has dilations, which TensorRT does not support in pooling",
            "pool without dilation",
            node.name,
        )
    elif operator == "Constant" and any(attribute.name in UNREAD for attribute in node.proto.attribute):
        remedy = "store it dense, as an initializer or in the attribute `value`"
        yield Finding(
            Severity.fail,
            f"{node} holds a sparse tensor or strings, which TensorRT does not support",
            remedy,
            node.name,
        )
    elif operator in ("ScatterElements", "ScatterND") and _attribute(node, "reduction", b"none") != b"none":
        remedy = _in_words("sum with a matrix product of one-hot rows", origin)
        yield Finding(
            Severity.fail, f"{node} reduces what it scatters, which TensorRT does not support", remedy, node.name
        )
    elif operator == "Resize" and _attribute(node, "antialias", 0):
        remedy = _in_words("interpolate with antialias=False", origin)
        yield Finding(Severity.fail, f"{node} has antialiasing, which TensorRT does not support", remedy, node.name)


def _training(node: Node, constants: Graph, origin: Origin) -> Iterator[Finding]:
    """BatchNormalization says it by an attribute, Dropout from opset 12 on by its third input."""
    switch = node.proto.input[2] if node.proto.op_type == "Dropout" and len(node.proto.input) > 2 else ""
    value = constants.constant(switch) if switch else None
    if _attribute(node, "training_mode", 0) or (value is not None and value.any()):
        remedy = origin.says("call `model.eval()` before the export", f"for inference, {origin.again}")
        yield Finding(Severity.fail, f"{node} is in training mode", remedy, node.name)


def _in_words(remedy: str, origin: Origin) -> str:
    """The remedy, where it is one of PyTorch, in words that a file from elsewhere can be mended by."""
    return origin.says(remedy, _ELSEWHERE if any(word in remedy for word in _PYTORCH_WORDS) else remedy)


def _batch_normalization(found: BatchNormalization) -> Finding:
    what = f"node '{found.node}' ({BATCH_NORMALIZATION})"
    if found.into is not None:
        remedy = (
            "nothing to do: every INT8 build folds it before it quantizes; the export folds it where it runs in"
            " evaluation mode"
        )
        return Finding(Severity.note, f"{what} will be folded into '{found.into}'", remedy, found.node)
    remedy = (
        "it stays a float layer between INT8 ones; put it right behind a convolution that nothing else reads, or leave"
        " it if the network is meant so"
    )
    return Finding(Severity.warning, f"{what} cannot be folded: {found.why_not}", remedy, found.node)


def quantized(model: onnx.ModelProto) -> Iterator[Finding]:
    """Q/DQ nodes, where calibrate and build_int8 are to place them."""
    nodes = [node for node in walk(model.graph) if node.proto.op_type in PAIR]
    if nodes:
        yield Finding(
            Severity.fail,
            f"the model carries {len(nodes)} Q/DQ nodes already, the first is {nodes[0]}",
            QUANTIZED,
            nodes[0].name,
        )


def _attribute(node: Node, name: str, default: Any) -> Any:
    for attribute in node.proto.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default
