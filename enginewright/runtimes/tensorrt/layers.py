"""The layers of a finished engine, and the precision that each one really runs in.

Two sources say the same: the engine inspector's JSON, which needs a GPU, and the layer lines that a VERBOSE build log
ends with, which do not. Both give a list of `Layer`. Formats seen: TensorRT 8.6 and 10 ("Format/Datatype": "Row major
Int8 format", "Weights": {"Type": "Int8"}), TensorRT 11 ("DataType"), TensorRT-RTX 1.7 ("Datatype: Int8").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from enginewright.errors import EnginewrightError

PRECISIONS = (  # first match wins; the words are TensorRT's, in its descriptions of formats and in its names of types
    ("INT8", re.compile(r"\bint8\b", re.IGNORECASE)),
    ("FP8", re.compile(r"fp8", re.IGNORECASE)),
    ("BF16", re.compile(r"\b(bf16|bfloat16)\b", re.IGNORECASE)),
    ("FP16", re.compile(r"\b(half|fp16|float16)\b", re.IGNORECASE)),
    ("FP32", re.compile(r"\b(float|fp32|float32|tf32)\b", re.IGNORECASE)),
    ("INT32", re.compile(r"\b(int32|int64|uint8|bool)\b", re.IGNORECASE)),
)
MOVES_ONLY = re.compile(r"^(reformat|noop|no_op|copy|move|signal|wait|constant|shape_call|shuffle)", re.IGNORECASE)
# A generated kernel bears the names of all the nodes that it touches, so that one which only rescales a convolution's
# result names it too.
GENERATED = re.compile(r"kgen", re.IGNORECASE)
GENERATED_PRODUCT = re.compile(r"Fc|Conv|Gemm|Dot|MatMul|Corr")
# Layer types that compute a product: what they say of a node's precision counts before what a layer says that only
# touches it.
PRODUCT = re.compile(r"conv|corr|gemm|matrixmultiply|matmul|fullyconnected|mha|dot", re.IGNORECASE)
# Up to TensorRT 10.0 a part of the network that Myelin compiles is one layer; of what runs inside, its types of inputs
# and outputs say nothing.
OPAQUE = re.compile(r"ForeignNode\[")
FUSED = "FUSED"  # stands for the precision of these in counts
# Tactics are named after the types that a kernel multiplies; with a dynamic batch 8.6 names no other type for some
# layers.
TACTICS = (
    ("INT8", re.compile(r"i8i8|_i8_|int8|imma|i8816|i16832", re.IGNORECASE)),
    ("FP16", re.compile(r"f16f16|_f16_|fp16|hmma|h884|h1688|h16816|_half", re.IGNORECASE)),
    ("FP32", re.compile(r"f32f32|_f32_|tf32|sgemm|scudnn|ffma", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, as the inspector or the build log describes it."""

    name: str
    kind: str  # LayerType: "CaskConvolution", "correlation", "kgen", ...
    precision: Optional[
        str
    ]  # of the values it computes on: "INT8", "FP16", "FP32", ...; None if it only moves data or waits
    nodes: tuple[str, ...] = ()  # ONNX nodes that it stands for, where the metadata says so
    tactic: str = ""
    inputs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    outputs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, under the inspector's own names, so that `from_inspector` reads it back."""
        return {
            "Name": self.name,
            "LayerType": self.kind,
            "TacticName": self.tactic,
            "Inputs": list(self.inputs),
            "Outputs": list(self.outputs),
            "Metadata": "".join(f"[ONNX Layer: {node}]" for node in self.nodes),
        }


def precision_of(description: str) -> Optional[str]:
    """`INT8` for "Thirty-two wide channel vectorized row major Int8 format", `FP16` for "Half"; None if it names no
    type.
    """
    return next((name for name, pattern in PRECISIONS if pattern.search(description)), None)


def from_inspector(text: str) -> list[Layer]:
    """Read the JSON of `EngineInspector.get_engine_information`.

    Raises:
        EnginewrightError: it is no JSON, or holds names alone because the engine was not built with detailed verbosity.
    """
    try:
        found = json.loads(text, strict=False)[
            "Layers"
        ]  # strict=False: it holds raw control characters (0x1e between nodes)
        return [_from_dict(entry) for entry in found]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EnginewrightError(
            "the engine inspector gave no detailed description of the layers; build the engine with detailed profiling"
            " verbosity"
        ) from None


def from_log(text: str) -> list[Layer]:
    """Read the layers that a VERBOSE build log prints at its end; empty if `text` has none."""
    if text.lstrip().startswith("Engine Layer Information:"):
        return [_from_8_6(*found.groups()) for found in re.finditer(r"^Layer\((\w+)\): (.*)$", text, re.MULTILINE)]
    return [_from_dict(_entry(line)) for line in text.splitlines() if line.startswith("Name: ")]


def completed(inspected: str, logged: str) -> dict[str, Any]:
    """The inspector's description with what only the log has said: a key Precision for layers that compute and whose
    type the inspector leaves out.

    With a dynamic batch TensorRT 8.6 describes a tensor as "N/A due to dynamic shapes", and names the type of a layer's
    weights; of a convolution fused with a pooling layer it names neither.

    Args:
        inspected: the inspector's JSON.
        logged: the layers as the VERBOSE build log prints them, or nothing.

    Raises:
        EnginewrightError: as `from_inspector`.
    """
    known = {layer.name: layer.precision for layer in from_log(logged)}
    found = from_inspector(inspected)
    kept: dict[str, Any] = json.loads(inspected, strict=False)
    for layer, entry in zip(found, kept["Layers"]):
        if layer.precision is None and (precision := known.get(layer.name)):
            entry["Precision"] = precision
    return kept


def is_opaque(layer: Layer) -> bool:
    """Whether a layer is a part of the network that was compiled as one, of which nothing is said but the types that it
    reads and writes.
    """
    return bool(OPAQUE.search(layer.name)) and not MOVES_ONLY.match(layer.kind)


def by_precision(layers: Iterable[Layer]) -> dict[str, int]:
    """Layers that compute, counted by precision."""
    counted = Counter(FUSED if is_opaque(layer) else layer.precision for layer in layers)
    return dict(sorted((precision, count) for precision, count in counted.items() if precision))


def precisions(nodes: Iterable[str], layers: Sequence[Layer]) -> dict[str, Optional[str]]:
    """Of ONNX nodes (convolutions and matrix products) the precision that the product is really computed in.

    Returns:
        Node -> "INT8", "FP16", ...; None if it lies inside a fused node, of which TensorRT says nothing. A node that no
        layer bears is left out where there is no fused node that could hold it.
    """
    wanted, products, touched, inside = set(nodes), dict[str, set[str]](), dict[str, set[str]](), set[str]()
    for layer in layers:
        named = wanted.intersection((*layer.nodes, *_parts(layer.name)))
        if is_opaque(layer):
            inside |= named
        elif layer.precision and not GENERATED.search(layer.kind):
            for node in named:
                (products if PRODUCT.search(layer.kind) else touched).setdefault(node, set()).add(layer.precision)
        elif layer.precision and GENERATED_PRODUCT.search(layer.name):
            for node in named:
                products.setdefault(node, set()).add(layer.precision)
    found: dict[str, Optional[str]] = {}
    for node in wanted:
        said = products.get(node) or touched.get(node)
        if said:  # a product in two layers of which one is float is not in INT8
            found[node] = min(said - {"INT8"}, default="INT8")
        elif node in inside or any(is_opaque(layer) for layer in layers):
            found[node] = None
    return found


def running_in(precision: str, nodes: Iterable[str], layers: Sequence[Layer]) -> list[str]:
    """Those ONNX nodes (convolutions and matrix products) whose product is known to be computed in `precision`."""
    wanted = list(nodes)
    found = precisions(wanted, layers)
    return [node for node in wanted if found.get(node) == precision]


def _parts(name: str) -> list[str]:
    """`conv_a + PWN(relu_a) || conv_b` as its nodes: fusion joins names by a plus sign, and layers that read the same
    tensor by two bars.
    """
    return [re.sub(r"^(?:PWN\()+(.*?)\)*$", r"\1", part.strip()) for part in re.split(r" \+ | \|\| ", name)]


def _from_dict(entry: Mapping[str, Any]) -> Layer:
    inputs, outputs = entry.get("Inputs", []), entry.get("Outputs", [])
    kind, name = str(entry.get("LayerType", "")), str(entry["Name"])
    return Layer(
        name=name,
        kind=kind,
        precision=(
            None
            if MOVES_ONLY.match(kind) or OPAQUE.search(name)
            else entry.get("Precision") or _computed_in(entry, inputs or outputs)
        ),
        nodes=tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(entry.get("Metadata", "")))),
        tactic=str(entry.get("TacticName", "")),
        inputs=inputs,
        outputs=outputs,
    )


def _computed_in(entry: Mapping[str, Any], tensors: Sequence[Mapping[str, Any]]) -> Optional[str]:
    """The type of the weights where the layer names it, else that of the first tensor: an INT8 kernel reads INT8 and
    may write any.
    """
    weights = entry.get("Weights")
    if isinstance(weights, Mapping) and (precision := precision_of(str(weights.get("Type", "")))):
        return precision
    for key in ("DataType", "Datatype", "Format/Datatype"):
        if tensors and (found := precision_of(str(tensors[0].get(key, "")))):
            return found
    return next((name for name, pattern in TACTICS if pattern.search(str(entry.get("TacticName", "")))), None)


def _entry(line: str) -> dict[str, Any]:
    """`Name: x, LayerType: y, Inputs: [ { Name: z, ... }], ..., Metadata: [ONNX Layer: a]` as a mapping under the same
    names.
    """
    found = re.match(
        r"Name: (.*?), LayerType: (\w+), Inputs: (.*?), Constants: .*?, Outputs: (.*?), TacticName: (.*?), StreamId:"
        r" .*?Metadata: ?(.*)$",
        line,
    )
    if not found:
        return {"Name": line[len("Name: ") :]}
    name, kind, inputs, outputs, tactic, metadata = found.groups()
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": _tensors(inputs),
        "Outputs": _tensors(outputs),
        "TacticName": tactic,
        "Metadata": metadata,
    }


def _tensors(text: str) -> list[dict[str, Any]]:
    pattern = r"\{ Name: (.*?), Dimensions: \[([-\d,]*)\].*?Datatype: (\w+), Format: (.*?)\}"
    return [
        {
            "Name": name,
            "Dimensions": [int(axis) for axis in axes.split(",") if axis],
            "Datatype": datatype,
            "Format": layout.strip(),
        }
        for name, axes, datatype, layout in re.findall(pattern, text)
    ]


def _from_8_6(kind: str, rest: str) -> Layer:
    """`conv1 + relu1, Tactic: 0x47, input[Int8(1,3,28,28)] -> output[Int8(1,32,28,28)]`."""
    name, _, signature = re.sub(r", Tactic: [-\w]+", "\0", rest, count=1).partition("\0")
    sources, _, results = signature.lstrip(", ").partition(" -> ")
    inputs, outputs = (
        [
            {"Name": tensor, "Datatype": datatype}
            for tensor, datatype in re.findall(r"(?:^|, )(.*?)\[(\w+)\([-\d,]*\)\]", side)
        ]
        for side in (sources, results)
    )
    return _from_dict({"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": outputs})
