"""The licence and the author that the metadata of an ONNX file names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from onnx import ModelProto

LICENCES = ("license", "licence")  # keys of metadata_props, in whichever case
AUTHORS = ("author", "authors")
KEPT = (*LICENCES, *AUTHORS)  # what a file of ours keeps of it


def licence(model: ModelProto) -> Optional[str]:
    """The licence that a file's metadata names, in one line."""
    return _named(model, LICENCES)


def author(model: ModelProto) -> Optional[str]:
    """The author that a file's metadata names, in one line."""
    return _named(model, AUTHORS)


def notice(model: ModelProto) -> Optional[str]:
    """The sentence that an import prints; None if the file names no licence."""
    if (found := licence(model)) is None:
        return None
    by = f" of {author(model)}" if author(model) else ""
    return f"the file's metadata names a licence{by}: {found}"


def _named(model: ModelProto, keys: Sequence[str]) -> Optional[str]:
    found = [entry.value for entry in model.metadata_props if entry.key.strip().lower() in keys]
    return next((" ".join(value.split()) for value in found if value.strip()), None)
