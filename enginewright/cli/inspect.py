"""`enginewright inspect`: what an artifact is, what it was made from, and whether that still holds."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from enginewright.calibration.cache import CalibrationCache
from enginewright.cli.chain import Link, artifact_of, trace
from enginewright.errors import ModelError

SUMMARY = "show an engine, a calib.cache or an ONNX model with its manifest and the chain of its inputs"
EXAMPLES = """examples:
  enginewright inspect artifacts/engines/int8/engine.onnx   settings, layers by precision, and the chain to the images
  enginewright inspect artifacts/calibration/calib.cache    the range of every tensor
  enginewright inspect artifacts/onnx/model.onnx            inputs, outputs, operators"""
COLOURS = {"ok": "green", "changed": "red", "missing": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("artifact", type=Path, help="the file, or its sidecar")


def run(arguments: argparse.Namespace) -> int:
    """Print what is known; exit code 2 if the artifact or a link of its chain has changed."""
    artifact = artifact_of(arguments.artifact)
    console = Console(soft_wrap=True, markup=False, highlight=False)  # a shape such as [batch, 4] is no markup
    link = trace(artifact)
    if link.manifest:
        console.print(_manifest_table(link))
        console.print(_tree(link))
    else:
        console.print(f"{artifact} has no sidecar: the pipeline did not make it, or did not finish it")
    if artifact.exists():
        for part in _content(artifact):
            console.print(part)
    return 0 if _unchanged(link) else 2


def _unchanged(link: Link) -> bool:
    return link.state != "changed" and all(_unchanged(below) for below in link.inputs)


def _manifest_table(link: Link) -> Table:
    table = Table("field", "value", title=str(link.path), title_justify="left")
    assert link.manifest  # by the caller
    table.add_row("made by", link.manifest.made_by)
    table.add_row("sha256", link.manifest.sha256)
    if link.manifest.target:
        for name, value in link.manifest.target.to_dict().items():
            if value:
                table.add_row(f"target.{name}", ", ".join(value) if isinstance(value, list) else str(value))
    for key, value in _flat(link.manifest.settings):
        table.add_row(key, value)
    return table


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield (
                f"{prefix}{key}",
                (
                    "\n".join(map(str, value))
                    if any(isinstance(item, str) and len(item) > 20 for item in value)
                    else ", ".join(map(str, value))
                ),
            )
        else:
            yield f"{prefix}{key}", str(value)


def _tree(link: Link) -> Tree:
    made_by = f" by {link.manifest.made_by}" if link.manifest else ""
    tree = Tree(Text.assemble(f"{link.path} ", (link.state, COLOURS[link.state]), (made_by, "dim")))
    for below in link.inputs:
        tree.add(_tree(below))
    return tree


def _content(artifact: Path) -> Iterator[RenderableType]:
    if artifact.name.endswith(".cache"):
        yield _scales(CalibrationCache.read(artifact))
    elif artifact.suffix == ".onnx":
        yield from _model(artifact)


def _scales(cache: CalibrationCache) -> Table:
    table = Table(
        "tensor",
        "scale",
        "range of the real values",
        title=f"{len(cache.scales)} tensors, {cache.header.value}",
        title_justify="left",
    )
    for tensor, scale in cache.scales.items():
        table.add_row(
            tensor, f"{scale:.6g}", f"±{scale * 127:.6g}"
        )  # scale = amax / 127 (enginewright.calibration.cache)
    return table


def _model(artifact: Path) -> Iterator[Table]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        model = onnx.load(artifact, load_external_data=False)
    except DecodeError:
        raise ModelError(f"{artifact} is not an ONNX model; run `dvc repro` to make it again") from None
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    table = Table("", "name", "dtype", "shape", title=f"ONNX, opset {opsets}", title_justify="left")
    weights = {tensor.name for tensor in model.graph.initializer}
    for kind, values in {"input": model.graph.input, "output": model.graph.output}.items():
        for value in values:
            if value.name not in weights:
                tensor = value.type.tensor_type
                shape = [
                    axis.dim_param or (axis.dim_value if axis.HasField("dim_value") else "?")
                    for axis in tensor.shape.dim
                ]
                table.add_row(
                    kind,
                    value.name,
                    onnx.TensorProto.DataType.Name(tensor.elem_type).lower(),
                    str(shape).replace("'", ""),
                )
    yield table
    operators = Table("operator", "nodes", title_justify="left")
    for name, count in Counter(node.op_type for node in model.graph.node).most_common():
        operators.add_row(name, str(count))
    yield operators
