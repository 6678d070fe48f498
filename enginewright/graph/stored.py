"""Large weights stay in files: a model here is its graph, and a weight is read from its file when it is asked for.

A model of 300 MB that is parsed whole takes its size twice, and every copy of it, every change from bytes to a message
and back, takes it again. So the file is mapped and its fields are walked, and a large initializer becomes one with
external data in the very file that it lies in: `location` is then an absolute path. New large weights go to a scratch
file in the same way. Such a message is for this library alone: `array` reads its weights, `write` and `serialized` put
them back into one ONNX file, the same bytes as protobuf would write, and `linked` lays out a file that ONNX Runtime
takes and maps.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Optional, Union, cast

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, checker, helper, numpy_helper

from enginewright.errors import ModelError
from enginewright.graph.external import HERE, STORED, bytes_of, external_faults, external_tensors, is_stored, place_of
from enginewright.graph.wire import Field, around, fields, head

Array = npt.NDArray[Any]

LARGE = 1 << 20  # bytes from which a weight stays in its file
CHUNK = 1 << 20  # bytes that are copied at a time
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9  # field numbers in onnx.proto
# What a map of bytes can be seen as without a change; of others ONNX's own code makes an array.
PLAIN = ("FLOAT", "DOUBLE", "FLOAT16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8", "BOOL")


class Piece(NamedTuple):
    """Bytes that lie in a file."""

    path: str
    offset: int
    length: int


def read(path: Path) -> ModelProto:
    """Read a model without its large weights.

    Args:
        path: an ONNX file; weights outside of it lie in its own folder.

    Raises:
        DecodeError: it is no ONNX file, or is cut short.
        ModelError: weights outside of it cannot be read.
        OSError: it cannot be read.
    """
    model = parsed(path)
    outside = external_tensors(model)
    if outside:
        fault = next(external_faults(path, model, outside), None)
        if fault is not None:
            raise ModelError(f"{path}: {fault.what}; {fault.remedy}")
        for tensor in outside:
            place = place_of(tensor)
            length = bytes_of(tensor) if place.length is None else place.length
            _refer(tensor, Piece(os.path.abspath(path.parent / place.location), place.offset, length))
    return model


def parsed(path: Path) -> ModelProto:
    """A model whose weights outside of the file are named as it names them."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size <= LARGE:
            return cast(ModelProto, ModelProto.FromString(stream.read()))
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _graph_of(content, os.path.abspath(path))


def _graph_of(content: mmap.mmap, path: str) -> ModelProto:
    """The model of a mapped file, its large weights as references."""
    kept = bytearray()
    for field in fields(content, 0, len(content)):
        if field.number != MODEL_GRAPH or field.end - field.start <= LARGE:
            kept += content[field.start : field.end]
            continue
        graph = bytearray()
        for inner in fields(content, field.content, field.end):
            large = inner.number == GRAPH_INITIALIZER and inner.end - inner.start > LARGE
            graph += (large and _reference(content, inner, path)) or content[inner.start : inner.end]
        kept += head(MODEL_GRAPH, len(graph)) + graph
    return cast(ModelProto, ModelProto.FromString(bytes(kept)))


def _reference(content: mmap.mmap, tensor: Field, path: str) -> Optional[bytes]:
    """A large initializer as a field without its values; None if they are not in raw_data."""
    inside = list(fields(content, tensor.content, tensor.end))
    raw = [field for field in inside if field.number == TENSOR_RAW_DATA and field.end - field.content > LARGE]
    if len(raw) != 1:
        return None
    rest = b"".join(content[field.start : field.end] for field in inside if field is not raw[0])
    referring = TensorProto.FromString(rest)
    _refer(referring, Piece(path, raw[0].content, raw[0].end - raw[0].content))
    serialized = referring.SerializeToString()
    return head(GRAPH_INITIALIZER, len(serialized)) + bytes(serialized)


def _refer(tensor: TensorProto, piece: Piece) -> None:
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    places = (("location", piece.path), ("offset", piece.offset), ("length", piece.length), (STORED, HERE))
    for key, value in places:
        tensor.external_data.add(key=key, value=str(value))


def _said(tensor: TensorProto, key: str) -> str:
    return next((str(entry.value) for entry in tensor.external_data if entry.key == key), "")


def _piece(tensor: TensorProto) -> Piece:
    return Piece(_said(tensor, "location"), int(_said(tensor, "offset") or 0), int(_said(tensor, "length")))


def array(tensor: TensorProto) -> Array:
    """The values of a tensor, wherever they lie; those of a file are mapped and may not be written to."""
    if not is_stored(tensor):
        return numpy_helper.to_array(tensor)
    if TensorProto.DataType.Name(tensor.data_type) not in PLAIN:
        return numpy_helper.to_array(inline(tensor))
    piece = _piece(tensor)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    mapped = np.memmap(piece.path, np.uint8, "r", piece.offset, (piece.length,))
    return np.asarray(mapped).view(dtype).reshape(tuple(tensor.dims))


def inline(tensor: TensorProto) -> TensorProto:
    """A tensor with its values in the message."""
    if not is_stored(tensor):
        return tensor
    result, piece = TensorProto(), _piece(tensor)
    result.CopyFrom(tensor)
    del result.external_data[:]
    result.ClearField("data_location")
    with open(piece.path, "rb") as stream:
        stream.seek(piece.offset)
        result.raw_data = stream.read(piece.length)
    return result


def tensor_of(values: Array, name: str) -> TensorProto:
    """A tensor of these values; large ones go to the scratch file."""
    if values.nbytes <= LARGE:
        return numpy_helper.from_array(values, name)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=values.shape)
    path = _Scratch.here() / "weights.bin"
    with path.open("ab") as stream:
        offset = stream.tell()
        np.ascontiguousarray(values).tofile(stream)
    _refer(tensor, Piece(str(path), offset, values.nbytes))
    return tensor


class _Scratch:
    """Folders of files that models refer to, the innermost last."""

    folders: ClassVar[list[Path]] = []

    @classmethod
    def here(cls) -> Path:
        """The folder for new files; the outermost one lives as long as the process."""
        if not cls.folders:
            folder = Path(tempfile.mkdtemp(prefix="enginewright-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            cls.folders.append(folder)
        return cls.folders[-1]


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """What is made inside refers to files that are removed at the end."""
    _Scratch.here()
    with tempfile.TemporaryDirectory(prefix="enginewright-") as folder:
        _Scratch.folders.append(Path(folder))
        try:
            yield
        finally:
            _Scratch.folders.pop()


def read_kept(path: Path) -> ModelProto:
    """Read a model from a temporary file, which stays as long as the scratch where it is needed."""
    return read(_kept(path))


def _kept(path: Path) -> Path:
    if path.stat().st_size <= LARGE:
        return path
    with tempfile.NamedTemporaryFile(dir=_Scratch.here(), delete=False) as handle:
        kept = Path(handle.name)
    shutil.move(str(path), kept)
    return kept


def pieces(model: ModelProto) -> Iterator[Union[bytes, Piece]]:
    """What protobuf writes of a model whose weights are all in the message, in its order."""
    if not any(is_stored(tensor) for tensor in model.graph.initializer):
        yield model.SerializeToString(deterministic=True)
        return
    before, after = around(_without(model, "graph"), MODEL_GRAPH)
    first, last = around(_without(model.graph, "initializer"), GRAPH_INITIALIZER)
    tensors = [piece for tensor in model.graph.initializer for piece in _of_tensor(tensor)]
    yield before + head(MODEL_GRAPH, len(first) + _length(tensors) + len(last)) + first
    yield from tensors
    yield last + after


def _of_tensor(tensor: TensorProto) -> list[Union[bytes, Piece]]:
    if not is_stored(tensor):
        serialized = tensor.SerializeToString(deterministic=True)
        return [head(GRAPH_INITIALIZER, len(serialized)) + serialized]
    piece, bare = _piece(tensor), TensorProto()
    bare.CopyFrom(tensor)
    del bare.external_data[:]
    bare.ClearField("data_location")
    before, after = around(bare.SerializeToString(deterministic=True), TENSOR_RAW_DATA)
    raw = head(TENSOR_RAW_DATA, piece.length)
    whole = len(before) + len(raw) + piece.length + len(after)
    return [head(GRAPH_INITIALIZER, whole) + before + raw, piece, after]


def _without(message: Union[ModelProto, GraphProto], name: str) -> bytes:
    """A message without one field, serialized: the field is not copied."""
    rest = type(message)()
    for field, value in message.ListFields():
        if field.name == name:
            continue
        if field.message_type is None and not hasattr(value, "extend"):
            setattr(rest, field.name, value)
        elif hasattr(value, "extend"):
            getattr(rest, field.name).extend(value)
        else:
            getattr(rest, field.name).CopyFrom(value)
    return bytes(rest.SerializeToString(deterministic=True))


def _length(some: Iterable[Union[bytes, Piece]]) -> int:
    return sum(each.length if isinstance(each, Piece) else len(each) for each in some)


def write(model: ModelProto, path: Path) -> None:
    """Write a model with all of its weights into one file."""
    with path.open("wb") as stream:
        _copy(pieces(model), stream)


def serialized(model: ModelProto) -> bytes:
    """A model with all of its weights, as bytes."""
    stream = io.BytesIO()
    _copy(pieces(model), stream)
    return stream.getvalue()


def size(model: ModelProto) -> int:
    """How many bytes `serialized` has."""
    return _length(pieces(model))


def _copy(some: Iterable[Union[bytes, Piece]], target: BinaryIO) -> None:
    for each in some:
        for chunk in _chunks(each):
            target.write(chunk)


def _chunks(piece: Union[bytes, Piece]) -> Iterator[bytes]:
    if not isinstance(piece, Piece):
        yield piece
        return
    with open(piece.path, "rb") as stream:
        stream.seek(piece.offset)
        left = piece.length
        while left:
            chunk = stream.read(min(left, CHUNK))
            if not chunk:
                raise ModelError(f"{piece.path} was cut short while it was read; run the stage again")
            yield chunk
            left -= len(chunk)


def check(model: ModelProto) -> None:
    """Run ONNX's checker over a whole model. Raises what it raises."""
    if is_whole(model):
        checker.check_model(model, full_check=True)
        return
    with tempfile.TemporaryDirectory() as folder:  # it takes no links, and no weights from another folder
        write(model, Path(folder) / "model.onnx")
        checker.check_model(str(Path(folder) / "model.onnx"), full_check=True)


def sha256(model: ModelProto) -> str:
    """Hex digest of `serialized`."""
    digest = hashlib.sha256()
    for each in pieces(model):
        for chunk in _chunks(each):
            digest.update(chunk)
    return digest.hexdigest()


def is_whole(model: ModelProto) -> bool:
    """Whether all weights are in the message."""
    return not any(map(is_stored, model.graph.initializer))


class Linked(NamedTuple):
    """A file for ONNX Runtime, and what its links are of: link -> file."""

    path: Path
    links: Mapping[str, str]

    def read(self, path: Path) -> ModelProto:
        """Read what ONNX Runtime made of it and wrote to `path`: weights refer to what the links were of."""
        model = parsed(_kept(path))
        for tensor in model.graph.initializer:
            if (link := self.links.get(_said(tensor, "location"))) is not None:
                _refer(tensor, _piece(tensor)._replace(path=link))
        return model


@contextlib.contextmanager
def linked(model: ModelProto) -> Iterator[Linked]:
    """An ONNX file beside hard links to the files that its weights lie in: ONNX Runtime maps these, and takes none
    from another folder. Where a file system has no links between the two, everything is copied into one file.
    """
    files = sorted({_piece(tensor).path for tensor in model.graph.initializer if is_stored(tensor)})
    names = {file: f"weights_{number}" for number, file in enumerate(files)}
    with contextlib.ExitStack() as stack:
        for parent in (_Scratch.here(), *(Path(file).parent for file in files[:1])):
            folder = _with_links(stack, parent, names)
            if folder is not None:
                (folder / "model.onnx").write_bytes(_renamed(model, names).SerializeToString(deterministic=True))
                yield Linked(folder / "model.onnx", {link: file for file, link in names.items()})
                return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_Scratch.here())))
        write(model, folder / "model.onnx")
        yield Linked(folder / "model.onnx", {})


def _with_links(stack: contextlib.ExitStack, parent: Path, names: Mapping[str, str]) -> Optional[Path]:
    """A temporary folder in `parent` with these links; None where it takes none."""
    try:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".enginewright-", dir=parent)))
        for file, link in names.items():
            os.link(file, folder / link)
    except OSError:  # read-only, or another file system
        return None
    return folder


def _renamed(model: ModelProto, names: Mapping[str, str]) -> ModelProto:
    """A copy whose stored weights lie in these files: for ONNX Runtime, without our mark."""
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in filter(is_stored, result.graph.initializer):
        piece = _piece(tensor)
        _refer(tensor, piece._replace(path=names[piece.path]))
        del tensor.external_data[-1]
    return result
