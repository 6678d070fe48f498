"""The ONNX file that `model.path` names, and the weights that lie beside it.

DVC sees what `model.path` names: a file, or a folder with one ONNX file and all that belongs to it. A file that keeps
weights beside it is refused unless the folder is named, because DVC would not see those change.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from enginewright.config import Model
from enginewright.config.choices import LIBRARY_CODE
from enginewright.errors import ModelError, nearest
from enginewright.graph import stored
from enginewright.graph.external import bytes_of, external_faults, external_tensors, place_of
from enginewright.graph.foreign import ANOTHER_COPY, ONE_FILE_LIMIT, foreign
from enginewright.layout import Layout

SUFFIX = ".onnx"


def located(model: Model, paths: Layout) -> Path:
    """The ONNX file that a configuration names, itself or as the only one of a folder.

    Raises:
        ModelError: it names none, none that exists, or a folder with several.
    """
    if model.path == LIBRARY_CODE:
        raise ModelError(
            "model.path names no file; set it to your ONNX file, or to a folder that holds it and the weights beside it"
        )
    path = paths.file(model.path)
    if path.is_dir():
        inside = sorted(file.name for file in path.glob(f"*{SUFFIX}"))
        if len(inside) != 1:
            holds = f"{len(inside)} ONNX files ({', '.join(inside)})" if inside else "no ONNX file"
            raise ModelError(
                f"model.path names the folder {model.path}, which holds {holds}; leave one there, or name a file"
            )
        return path / inside[0]
    if not path.exists():
        beside = [file.name for file in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
        hint = nearest(path.name, beside)
        raise ModelError(f"model.path names {model.path}, which does not exist{hint or '; mend the path'}")
    return path


def read(path: Path, model: Model, *, weights: bool = True) -> onnx.ModelProto:
    """Read the file, with the weights that lie beside it.

    Args:
        path: as `located` found it.
        model: what it is named by.
        weights: also those beside it; without them the result is good for a look at its interface.

    Raises:
        ModelError: it is not ONNX, is damaged, or keeps weights where they are not found or not seen by DVC.
    """
    name = path.name
    try:
        other = foreign(path)
    except OSError as fault:
        raise ModelError(f"{model.path} cannot be read ({fault.strerror}); check its permissions") from None
    if other is not None:
        raise ModelError(f"{model.path} is {other.what} instead of ONNX; {other.remedy or ANOTHER_COPY}")
    try:
        found = stored.parsed(path)
    except (DecodeError, UnicodeDecodeError):
        raise ModelError(f"{name} is not an ONNX file, or it is cut short; {ANOTHER_COPY}") from None
    if not found.graph.node:
        raise ModelError(f"{name} holds no graph; it is not an ONNX model, or damaged: {ANOTHER_COPY}")
    _require_seen(path, model, found)
    return stored.read(path) if weights else found


def files_of(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """What a model that was read without the weights beside it is made of: the file, and those that hold weights."""
    beside = {place_of(tensor).location for tensor in external_tensors(model)}
    return (path, *(path.parent / name for name in sorted(beside)))


def _require_seen(path: Path, model: Model, found: onnx.ModelProto) -> None:
    outside = external_tensors(found)
    if not outside:
        return
    for fault in external_faults(path, found):
        raise ModelError(f"{path.name}: {fault.what}; {fault.remedy}")
    names = ", ".join(file.name for file in files_of(path, found)[1:])
    if not path.parent.samefile(path) and path.name == Path(model.path).name:
        raise ModelError(
            f"{model.path} keeps weights beside it, in {names}, which DVC would not see change; put both into a folder"
            " of their own and set model.path to the folder"
        )
    size = sum(map(bytes_of, outside))
    if size > ONE_FILE_LIMIT:
        raise ModelError(
            f"the weights of {path.name} hold {size / 2**30:.1f} GiB, and the pipeline keeps a model in one ONNX file,"
            " which takes 2 GiB at most; use a smaller model"
        )
