"""Which layers INT8 leaves in FP16: the file layers.yaml, and what such a choice means for the nodes of a graph."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Optional

import yaml
from onnx import ModelProto

from enginewright.errors import ConfigError, ModelError, nearest
from enginewright.graph.constants import operator
from enginewright.graph.index import Graph
from enginewright.graph.qdq import quantizable
from enginewright.graph.reasons import COMPANIONS, QUANTIZABLE

VERSION = 1
SEARCH = "search"
PATTERN_SIGNS = "*?["
HEADER = """\
# Layers that INT8 leaves in FP16 (FP32 on a CPU), each with the reason. All other Conv, ConvTranspose, Gemm and MatMul
# may run in INT8: they do, but for those that TensorRT computes faster in FP16 between two of these; build_int8_mixed
# names them.
# To keep a choice of your own: copy this file, edit it, and run
# `enginewright configure YOUR SETTINGS search_mixed.layers=PATH && dvc repro`;
# settings that are not named there go back to their defaults.
"""


@dataclass(frozen=True)
class FloatLayer:
    """A Conv, ConvTranspose, Gemm or MatMul that stays in FP16."""

    name: str  # of the node in model.onnx; in a user's file also a pattern of such names
    reason: str = "chosen by hand"


@dataclass(frozen=True)
class Mixture:
    """What layers.yaml says. `layers` is None where it asks for a search."""

    layers: Optional[tuple[FloatLayer, ...]]
    operators: tuple[str, ...] = ()  # operators that stay in FP16 wherever they stand

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(layer.name for layer in self.layers or ())

    @classmethod
    def read(cls, path: Path) -> Mixture:
        """Read a file of this project's making or a user's.

        Raises:
            ConfigError: it is missing, no YAML, of another version, or has an entry that is not understood.
        """
        try:
            loaded = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            raise ConfigError(
                f"{path} does not exist; set search_mixed.layers to layers/search.yaml, or to a copy of"
                " artifacts/mixed/layers.yaml"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as fault:
            raise ConfigError(f"{path} is not valid YAML: {' '.join(str(fault).split())}") from None
        if not isinstance(loaded, dict) or "layers" not in loaded:
            raise ConfigError(
                f"{path} holds no key `layers`: either `layers: {SEARCH}`, or a list of entries with `name` and"
                " `reason`"
            )
        if loaded.get("version") != VERSION:
            raise ConfigError(
                f"{path} has version {loaded.get('version')}, and this Enginewright reads version {VERSION}; add"
                f" `version: {VERSION}`"
            )
        if unknown := set(loaded) - {"version", "layers", "operators"}:
            raise ConfigError(
                f"{path}: {sorted(unknown)[0]} is no key of"
                f" layers.yaml{nearest(sorted(unknown)[0], ['version', 'layers', 'operators'])}"
            )
        operators = loaded.get("operators") or []
        if not isinstance(operators, list) or not all(isinstance(operator, str) for operator in operators):
            raise ConfigError(f"{path}: operators is {operators!r} and must be a list such as [Sigmoid, Softmax]")
        if loaded["layers"] == SEARCH:
            return cls(None, tuple(operators))
        if not isinstance(loaded["layers"], list):
            raise ConfigError(
                f"{path}: layers is {loaded['layers']!r} and must be `{SEARCH}` or a list of entries with `name` and"
                " `reason`"
            )
        return cls(tuple(_layer(entry, path) for entry in loaded["layers"]), tuple(operators))

    def to_text(self) -> str:
        """The file's content; equal choices give equal bytes."""
        content: dict[str, Any] = {
            "version": VERSION,
            "layers": [{"name": layer.name, "reason": layer.reason} for layer in self.layers or ()],
        }
        if self.operators:
            content["operators"] = list(self.operators)
        return HEADER + yaml.safe_dump(content, sort_keys=False, width=sys.maxsize, allow_unicode=True)

    def resolved(self, model: ModelProto, where: str) -> Mixture:
        """The same with every layer named as the model names it: a pattern such as `/head/*_preds.*/Conv` becomes the
        layers that it fits, in the graph's order.

        Patterns are those of `fnmatch`: *, which a slash does not end, ?, [seq] and [!seq]. A layer has the reason of
        the first entry that fits it. A name that the model has is no pattern, whatever stands in it.

        Raises:
            ModelError: naming the first entry that fits no layer, with the nearest layer.
        """
        if self.layers is None:
            return self
        known = [node.name for node in quantizable(model)]
        found: dict[str, FloatLayer] = {}
        for layer in self.layers:
            fitting = [layer.name] if layer.name in known else [name for name in known if fnmatchcase(name, layer.name)]
            if not fitting:
                what = "that fits" if any(sign in layer.name for sign in PATTERN_SIGNS) else "called"
                raise ModelError(
                    f"{where}: the model has no Conv, ConvTranspose, Gemm or MatMul {what}"
                    f" '{layer.name}'{nearest(layer.name, known)}; correct the name, or search again"
                )
            for name in fitting:
                found.setdefault(name, replace(layer, name=name))
        return replace(self, layers=tuple(found.values()))

    def nodes(self, model: ModelProto) -> tuple[str, ...]:
        """The names of all nodes that stay in float, in the graph's order."""
        return float_nodes(model, self.names, self.operators)


def _layer(entry: object, path: Path) -> FloatLayer:
    if isinstance(entry, str):
        return FloatLayer(entry)
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or set(entry) - {"name", "reason"}:
        raise ConfigError(f"{path}: the entry {entry!r} of layers must have `name`, and may have `reason`")
    return FloatLayer(entry["name"], str(entry.get("reason", FloatLayer.reason)))


def float_nodes(model: ModelProto, layers: Collection[str], operators: Sequence[str] = ()) -> tuple[str, ...]:
    """Nodes that stay in float if `layers` do: these, the activations and sums between each of them and its neighbours,
    and `operators`.

    A residual sum or an activation in INT8 would round what a float layer reads, or what it wrote, to 8 bits.

    Args:
        model: FP32. A node without a name of its own goes by its first output.
        layers: names of Conv, ConvTranspose, Gemm and MatMul nodes; unknown ones are ignored.
        operators: types, such as Sigmoid, that stay in float wherever they stand.
    """
    graph = Graph(model)
    chosen = [node for node in graph.nodes if (node.name and node.name in layers) or graph.key(node) in layers]
    kept = {graph.key(node) for node in (*chosen, *(node for node in graph.nodes if node.op_type in operators))}
    kept |= _preceding(graph, [node.input[0] for node in chosen])
    for node in chosen:
        kept |= _following(graph, node.output[0])
    return tuple(key for node in graph.nodes if (key := graph.key(node)) in kept)


def _preceding(graph: Graph, tensors: Iterable[str]) -> set[str]:
    """Companions between these tensors and the layers before, on ways with at most one node that joins tensors."""
    found: set[str] = set()
    waiting = [(tensor, 1) for tensor in tensors]
    seen: dict[str, int] = {}  # tensor -> the most joins that were allowed when it was reached
    while waiting:
        tensor, joins = waiting.pop()
        node = graph.producer(tensor)
        if node is None or operator(node) in QUANTIZABLE or seen.get(tensor, -1) >= joins:
            continue
        seen[tensor] = joins
        sources = [source for source in node.input if source and not graph.is_constant(source)]
        joins -= len(sources) > 1
        if joins < 0:
            continue
        if operator(node) in COMPANIONS:
            found.add(graph.key(node))
        waiting += [(source, joins) for source in sources]
    return found


def _following(graph: Graph, tensor: str) -> set[str]:
    """Companions fed by `tensor` alone, however far, and the first ones that join it with something else."""
    own, found, waiting = {tensor}, set(), [tensor]
    while waiting:
        for node in graph.consumers(waiting.pop()):
            if operator(node) in QUANTIZABLE:
                continue
            if operator(node) in COMPANIONS:
                found.add(graph.key(node))
            joins = any(source and source not in own and not graph.is_constant(source) for source in node.input)
            if not joins and node.output[0] not in own:
                own.add(node.output[0])
                waiting.append(node.output[0])
    return found
