"""What a file is that is given as ONNX and is none, told from its first bytes, and what to do with it.

Nothing of a pickle is read: the names in a zip archive tell a TorchScript module from a checkpoint.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

HEAD = 1 << 12  # bytes of a file that are looked at
ONE_FILE_LIMIT = 2**31 - 1  # bytes of a protobuf message
LARGER = "store the weights beside it: onnx.save_model(model, path, save_as_external_data=True)"

POINTER = b"version https://git-lfs.github.com/spec/"
TORCHSCRIPT, CHECKPOINT, PROGRAM = "a TorchScript module", "weights as torch.save writes them", "a torch.export program"
FROM_CODE = (
    "model.source: pytorch takes such weights together with the code that makes the network (conf/model/own.yaml)"
)
FROM_TORCHSCRIPT = "export it: torch.onnx.export(torch.jit.load(path), ..., dynamo=False)"
FROM_PROGRAM = "export it: torch.onnx.export(torch.export.load(path), ...)"
FROM_SOURCE = "give the ONNX file that it was made of"
ANOTHER_COPY = "take another copy of it"

# The first bytes of other formats -> what the file is, and what to do.
BEGINNINGS: Mapping[bytes, tuple[str, str]] = {
    POINTER: ("a Git LFS pointer instead of the file itself", "run `git lfs pull`"),
    b"\x89HDF": ("an HDF5 file, as Keras writes", "convert it with tf2onnx"),
    b"GGUF": ("a GGUF file", "export the model that it was made of to ONNX"),
    b"\x1f\x8b": ("compressed by gzip", "unpack it first"),
    b"BZh": ("compressed by bzip2", "unpack it first"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it first"),
    b"\x93NUMPY": ("a NumPy array", "give the ONNX file"),
}
# The same at the fourth byte: identifiers of FlatBuffers.
IDENTIFIERS: Mapping[bytes, tuple[str, str]] = {
    b"ORTM": ("a model in ONNX Runtime's own format (.ort)", FROM_SOURCE),
    b"TFL3": ("a TensorFlow Lite model", "convert it with tf2onnx"),
}


@dataclass(frozen=True)
class Foreign:
    """What a file is instead of ONNX, and what to do."""

    what: str  # follows "model.onnx is "
    remedy: str = ""  # empty where it is damaged: whoever asks knows how such a file is made again


def foreign(path: Path) -> Optional[Foreign]:
    """What a file is instead of a whole ONNX file; None if nothing speaks against it.

    Args:
        path: a file. Raises OSError if it cannot be read.
    """
    size = path.stat().st_size
    if not size:
        return Foreign("empty")
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head[:4] == b"PK\x03\x04":
        return _archive(path)
    if (named := _by_bytes(head) or _text(head)) is not None:
        return Foreign(*named)
    if size > ONE_FILE_LIMIT:
        return Foreign(f"{size / 2**30:.1f} GiB, and one ONNX file takes 2 GiB at most", LARGER)
    return None


def _by_bytes(head: bytes) -> Optional[tuple[str, str]]:
    for beginning, named in BEGINNINGS.items():
        if head.startswith(beginning):
            return named
    if head[4:8] in IDENTIFIERS:
        return IDENTIFIERS[head[4:8]]
    return _by_structure(head)


def _by_structure(head: bytes) -> Optional[tuple[str, str]]:
    """Formats that begin with a length or a version."""
    if head[1:4] == b"trt":  # "ftrt" and "ptrt" of TensorRT, "vtrt" of TensorRT-RTX
        return "an engine that TensorRT built", FROM_SOURCE
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and head[1:3] != b"\x02\x0a":
        return "a pickle, as torch.save wrote before PyTorch 1.6", FROM_CODE
    length = int.from_bytes(head[:4], "little")
    if head[4:5] == b"{" and 0 < length < 1 << 20:  # ultralytics writes JSON and its length before the plan
        return "an engine that TensorRT built, with a description before it", FROM_SOURCE
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 1 << 27:
        return "a safetensors file", FROM_CODE
    return None


def _archive(path: Path) -> Foreign:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Foreign("a zip archive that is damaged", ANOTHER_COPY)
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return Foreign(TORCHSCRIPT, FROM_TORCHSCRIPT)
    if any(name.rpartition("/")[2] in ("archive_format", "serialized_exported_program.json") for name in names):
        return Foreign(PROGRAM, FROM_PROGRAM)
    if any(name.endswith("data.pkl") for name in names):
        return Foreign(CHECKPOINT, FROM_CODE)
    inside = next((name for name in names if name.endswith(".onnx")), None)
    if inside is not None:
        return Foreign(f"a zip archive that holds {inside}", "unpack it first")
    return Foreign("a zip archive", "unpack it first")


def _text(head: bytes) -> Optional[tuple[str, str]]:
    """What a file is whose beginning prints: ONNX begins with a control character."""
    try:
        words = head.decode("utf-8")
    except UnicodeDecodeError as fault:
        if fault.start < len(head) - 3:  # more than a letter that is cut at the end
            return None
        words = head[: fault.start].decode("utf-8")
    if not all(letter.isprintable() or letter in "\t\r\n\f" for letter in words):
        return None
    if words.lstrip().lower().startswith(("<!doctype html", "<html")):
        return "a web page, as a download that failed leaves it", "download it again"
    return "a text file", "give the ONNX file"
