"""Weights that lie outside of an ONNX file: where, and whether they may be read.

They are read from the file's own folder alone, and never through a link: a path in a model that came from elsewhere
must not reach another file of this machine. onnx holds to the same, ONNX Runtime mostly (a `..` that comes back).
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Optional

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from enginewright.graph.names import inner_graphs

STORED, HERE = "checksum", secrets.token_hex(20)  # the mark of such a tensor, in this process alone


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor lie."""

    location: str  # relative to the folder of the model
    offset: int
    length: Optional[int]  # None: to the end of the file


@dataclass(frozen=True)
class Fault:
    """Why the weights in one file cannot be read, and what to do."""

    what: str
    remedy: str
    tensor: str  # the first that lies there


def is_external(tensor: TensorProto) -> bool:
    """Whether the file that a tensor was read from says that its values lie in another one."""
    return bool(tensor.data_location == TensorProto.EXTERNAL) and not is_stored(tensor)


def is_stored(tensor: TensorProto) -> bool:
    """Whether `stored` left a tensor's values in a file. No model that comes from elsewhere can say so."""
    return any(entry.key == STORED and entry.value == HERE for entry in tensor.external_data)


def external_tensors(model: ModelProto) -> list[TensorProto]:
    """Every tensor with values in another file: initializers and attributes, of inner graphs and functions too."""
    found = [tensor for tensor in _tensors(model.graph) if is_external(tensor)]
    for function in model.functions:
        found += [tensor for node in function.node for tensor in _of_node(node) if is_external(tensor)]
    return found


def place_of(tensor: TensorProto) -> Place:
    """Where a tensor's values lie. Raises ValueError if its place is no place."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(said.get("offset") or 0), int(said["length"]) if said.get("length") else None
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"an offset of {offset} and a length of {length}")
    return Place(str(said.get("location", "")), offset, length)


def bytes_of(tensor: TensorProto) -> int:
    """How many bytes the values of a tensor take, by its shape and type; types of less than a byte count as one."""
    values = prod(max(int(size), 0) for size in tensor.dims)
    try:
        return values * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError):  # a type that ONNX does not have
        return values


def external_faults(path: Path, model: ModelProto, tensors: Optional[Sequence[TensorProto]] = None) -> Iterator[Fault]:
    """What is wrong with the files beside a model that hold its weights; each file is named once.

    Args:
        path: of the model.
        model: read without these weights.
        tensors: of the model, to look at these alone.
    """
    named: set[str] = set()
    for tensor in external_tensors(model) if tensors is None else tensors:
        try:
            place = place_of(tensor)
        except ValueError:
            yield Fault(f"the weight '{tensor.name}' has no place in a file", _DAMAGED, str(tensor.name))
            continue
        if place.location in named:
            continue
        end = place.offset + (bytes_of(tensor) if place.length is None else place.length)
        what, remedy = _misnamed(place.location) or _mislaid(path, place.location, end) or ("", "")
        if what:
            named.add(place.location)
            yield Fault(
                f"the weight '{tensor.name}' lies in {place.location or 'a file without a name'}{what}",
                remedy,
                str(tensor.name),
            )


_DAMAGED = "the file is damaged: take another copy"
_SAVE = "load the model where it was made and save it with onnx.save_model(model, path, save_as_external_data=True)"


def _misnamed(location: str) -> Optional[tuple[str, str]]:
    """A place that is refused by its name alone: what it names is not even looked at."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or "\0" in location:
        return ", which is no name of a file", _DAMAGED
    if posix.is_absolute() or windows.is_absolute() or windows.drive:
        return ", an absolute path, which is never read", f"{_SAVE}, which names files beside it"
    if ".." in posix.parts or ".." in windows.parts:
        return ", which leads out of the folder and is never read", f"{_SAVE}, which names files beside it"
    return None


def _mislaid(path: Path, location: str, end: int) -> Optional[tuple[str, str]]:
    """What is wrong with a file inside the model's folder that should hold `end` bytes."""
    try:
        linked = any(step.is_symlink() for step in _steps(path.parent, PurePosixPath(location)))
        found = (path.parent / location).lstat()
    except FileNotFoundError:
        return ", which is missing", f"put it beside {path.name}"
    except (OSError, ValueError):
        return ", which cannot be read", f"put it beside {path.name}"
    if linked or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
        return ", a link, which is never followed", f"put a copy of it beside {path.name}"
    if not stat.S_ISREG(found.st_mode):
        return ", which is no file", f"put it beside {path.name}"
    if end > found.st_size:
        return f", which holds {found.st_size} bytes and should hold {end}", "it is cut short: take another copy"
    return None


def _steps(folder: Path, location: PurePosixPath) -> Iterator[Path]:
    here = folder
    for part in location.parts:
        here = here / part
        yield here


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            yield attribute.t
        yield from attribute.tensors
    for inner in inner_graphs(node):
        yield from _tensors(inner)
