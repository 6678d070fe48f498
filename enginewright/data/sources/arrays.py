"""The source `arrays`: a folder of .npz files, one a sample, with an array for each input of the model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib.npyio import NpzFile

from enginewright.config import Data
from enginewright.data.classes import BY_NUMBER, read_classes
from enginewright.data.named import TARGET, named_arrays, named_sample
from enginewright.data.samples import UNLABELLED, Sample, Source
from enginewright.data.tracked import seen_by_dvc
from enginewright.data.walk import Kind, Survey
from enginewright.errors import DataError
from enginewright.feeds import Array

T = TypeVar("T")
ARRAYS = Kind("sample", (".npz",))
_DAMAGED = (OSError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


def arrays(data: Data, project: Path) -> Source:
    """The .npz files of a folder and of all folders in it, in the order of their paths.

    Each holds an array without the batch axis for each input, by its name; `target`, if there is one, is the class as
    an integer, counted from 0 in the order of the model's outputs, or any array that the task takes.

    Raises:
        DataError: naming what DVC would not see or follow.
    """
    root = project / data.root
    if not root.is_dir():
        raise DataError(f"data.root {root} is no folder; give one that holds an .npz file for each sample")
    survey = Survey(ARRAYS)
    survey.look(root, seen_by_dvc(project))
    classes = read_classes(data, project)

    def samples() -> Iterator[Sample]:
        for path in ARRAYS.below(root):
            name = str(path)
            try:
                yield named_sample(name, partial(_arrays, path), _read(path, _target), classes)
            except DataError as fault:  # raised with what else is wrong with samples
                yield Sample(name, UNLABELLED, partial(_raise, fault))

    return Source(
        classes,
        samples,
        str(root),
        ignored=sum(survey.ignored.values()),
        notes=tuple(survey.notes()),
        unknown=survey.unknown,
        class_order=BY_NUMBER,
    )


def _arrays(path: Path) -> dict[str, Array]:
    return named_arrays(str(path), _read(path, lambda found: {key: found[key] for key in found.files if key != TARGET}))


def _target(found: Any) -> Any:
    return found[TARGET] if TARGET in found.files else None


def _raise(fault: DataError) -> Any:
    raise fault


def _read(path: Path, of: Callable[[Any], T]) -> T:
    """Return what a function makes of the open file. Nothing is unpickled, as that would run code."""
    try:
        with path.open("rb") as stream:  # np.load leaves it open where it fails
            found = np.load(stream, allow_pickle=False)
            if not isinstance(found, NpzFile):
                raise _unreadable(path, ValueError("it is one array, as np.save writes it"))
            return of(found)
    except ValueError as fault:
        if "pickle" in str(fault):
            raise DataError(
                f"{path} holds Python objects, which are pickled and could run code when they are read; write arrays of"
                " numbers of one shape"
            ) from None
        raise _unreadable(path, fault) from None
    except _DAMAGED as fault:
        raise _unreadable(path, fault) from None
    except MemoryError:
        raise DataError(f"{path} holds more than fits into memory; give each sample a file of its own") from None


def _unreadable(path: Path, fault: Exception) -> DataError:
    reason = " ".join(str(fault).split()) or type(fault).__name__
    return DataError(f"{path} cannot be read as an .npz file ({reason}); replace the file or remove it")
