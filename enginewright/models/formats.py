"""What a file of weights is, by its first bytes and never by its name, and what to do where it holds none."""

from __future__ import annotations

import zipfile
from enum import Enum
from pathlib import Path

from enginewright.errors import ModelError

SAVE = "torch.save(model.state_dict(), path)"


class Format(Enum):
    """A file that weights are read from."""

    pytorch = "pytorch"  # what torch.save writes: a zip, before PyTorch 1.6 a pickle
    safetensors = "safetensors"


# first bytes -> what such a file is, and the way to weights
NO_WEIGHTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file, as Keras saves it", f"load it into the PyTorch model and write {SAVE}"),
    (b"GGUF", "a GGUF file of llama.cpp", f"write {SAVE} of the PyTorch model"),
    (b"ftrt", "a TensorRT engine", f"write {SAVE} of the model that it was built from"),
    (b"\x93NUMPY", "a NumPy array", f"write {SAVE}"),
    (b"<!DOCTYPE", "an HTML page, which a download leaves in place of a file", "download it again"),
    (b"<html", "an HTML page, which a download leaves in place of a file", "download it again"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first"),
)
TFLITE = b"TFL3"  # from the fifth byte on
LENGTH = 8  # bytes in front of safetensors' JSON, its size
PICKLE = b"\x80"  # the first byte of a pickle of protocol 2 and later
TAR_MAGIC, TAR_AT = b"ustar", 257


def format_of(path: Path) -> Format:
    """Tell what a file of weights is.

    Raises:
        ModelError: there is no such file, it is empty, or it is of another kind; the sentence names that kind and says
            what to do.
    """
    head = _head(path)
    if head.startswith(b"PK"):
        return _of_zip(path)
    if head[LENGTH : LENGTH + 1] == b"{":
        return Format.safetensors
    for start, what, remedy in NO_WEIGHTS:
        if head.startswith(start):
            raise _other(path, what, remedy)
    if head[4:8] == TFLITE:
        raise _other(path, "a TensorFlow Lite model", f"write {SAVE} of the PyTorch model")
    if head.startswith(PICKLE) or head[TAR_AT : TAR_AT + 5] == TAR_MAGIC:
        return Format.pytorch
    if path.suffix == ".onnx" or _is_onnx(head):
        raise _other(path, "an ONNX model", f"set model.source=onnx and model.path={path}")
    raise ModelError(f"{path} is damaged or not a PyTorch file; copy it again, or write it with {SAVE}")


def _head(path: Path) -> bytes:
    """The first bytes of a file that has some. Raises ModelError."""
    if path.is_dir():
        raise ModelError(f"model.weights {path} is a folder; name the file in it that holds the state dict")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError:
        raise ModelError(
            f"the weights {path} do not exist; set model.weights to a state dict, or run `dvc repro train_reference`"
        ) from None
    except OSError as fault:
        raise ModelError(f"the weights {path} cannot be read ({fault.strerror}); check its permissions") from None
    if not head:
        raise ModelError(f"{path} is empty; copy it again, or remove it and train again")
    return head


def _of_zip(path: Path) -> Format:
    """Tell PyTorch's archives from each other, and from what else is a zip."""
    try:
        names = zipfile.ZipFile(path).namelist()
    except zipfile.BadZipFile:
        raise ModelError(
            f"{path} is damaged: it begins as a zip and does not end as one; copy it again, or remove it and train"
            " again"
        ) from None
    within = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in within or any(name.startswith("code/") for name in within):
        raise _other(
            path,
            "a TorchScript archive, a compiled program",
            f'save its weights alone: torch.save(torch.jit.load("{path}").state_dict(), "weights.pt")',
        )
    if "archive_format" in within:
        raise _other(
            path,
            "a program of torch.export",
            f'save its weights alone: torch.save(torch.export.load("{path}").state_dict, "weights.pt")',
        )
    if "data.pkl" in within:
        return Format.pytorch
    if names and all(name.endswith(".npy") for name in names):
        raise _other(path, "an archive of NumPy arrays", f"load them into the PyTorch model and write {SAVE}")
    raise _other(path, "a zip that PyTorch did not write", "unpack it, and name the file that holds the state dict")


def _is_onnx(head: bytes) -> bool:
    """Whether a file begins with ONNX's ir_version, a small number, and the producer's name or the graph."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x20 and head[2] in (0x12, 0x3A, 0x42)


def _other(path: Path, what: str, remedy: str) -> ModelError:
    return ModelError(f"{path} is {what}; {remedy}")
