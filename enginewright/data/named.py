"""Samples that are arrays by the names of the model's inputs: what is refused of each, with its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np

from enginewright.config import DTYPES
from enginewright.data.samples import UNLABELLED, Sample
from enginewright.errors import DataError, nearest
from enginewright.feeds import Array
from enginewright.interface import TensorSpec

TARGET = "target"  # the key of what the task is asked about a sample; one integer is its class


def named_arrays(name: str, given: Mapping[str, Any]) -> dict[str, Array]:
    """Check the arrays of a sample, all but its target.

    Args:
        name: what to call the sample.
        given: input name -> array without the batch axis.

    Raises:
        DataError: with the name of the sample, and what to do.
    """
    arrays = {str(key): _array(name, str(key), value) for key, value in given.items() if key != TARGET}
    if not arrays:
        raise DataError(f"{name} holds no array; give it one for each input of the model, by its name")
    return arrays


def named_sample(
    name: str, load: Callable[[], Mapping[str, Array]], target: Optional[Any], classes: Sequence[str]
) -> Sample:
    """Make a sample of arrays.

    Args:
        name: what to call it.
        load: gives the arrays.
        target: a class or any array; None where it has none.
        classes: names of the model's classes, in their order; empty where they are not known.

    Raises:
        DataError: the target is none, with the name of the sample.
    """
    if target is None:
        return Sample(name, UNLABELLED, load)
    array = _array(name, TARGET, target)
    if array.ndim or array.dtype.kind not in "iu":
        return Sample(name, UNLABELLED, load, target=partial(np.asarray, array))
    label = int(array)
    if label < 0 or (classes and label >= len(classes)):
        known = f"data.classes names {len(classes)}, from 0 on" if classes else "classes are counted from 0 on"
        raise DataError(f"{name} has the target {label}, which is no class: {known}")
    return Sample(name, label, load)


def require_inputs(name: str, arrays: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> None:
    """Raise DataError unless a sample's arrays, without the batch axis, are what the inputs take."""
    _require_keys(name, arrays, inputs)
    for spec in inputs:
        array = arrays[spec.name]
        if fault := misfit(array.dtype, [[size, size] for size in array.shape], spec):
            raise DataError(f"'{spec.name}' of {name} is {array.dtype} {list(array.shape)}{fault}")


def _array(name: str, key: str, value: Any) -> Array:
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic, int, float)) else None
    if array is None:
        raise DataError(f"'{key}' of {name} is a {type(value).__name__}; give it as a NumPy array")
    if array.dtype.hasobject:
        raise DataError(f"'{key}' of {name} holds Python objects; give it as an array of numbers of one shape")
    if key == TARGET and array.dtype.kind in "iu" and array.dtype.name not in DTYPES:
        array = array.astype(np.int64)
    if array.dtype.newbyteorder("=").name not in DTYPES:
        raise DataError(f"'{key}' of {name} is {array.dtype}; convert it to one of {', '.join(DTYPES)}")
    if not array.size and key != TARGET:
        raise DataError(f"'{key}' of {name} is empty, {list(array.shape)}; give it a value, or leave the sample out")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else "infinity"
        raise DataError(f"'{key}' of {name} holds {what}, which no engine can be judged on; mend what made it")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)


def _require_keys(name: str, arrays: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> None:
    wanted = [spec.name for spec in inputs]
    for key in arrays:
        if key not in wanted:
            raise DataError(f"{name} has the key '{key}', which is no input of the model{nearest(key, wanted)}")
    for key in wanted:
        if key not in arrays:
            raise DataError(
                f"{name} has no key '{key}', which is an input of the model; it has {', '.join(arrays)}: write the"
                " array under that name"
            )


def misfit(dtype: np.dtype[Any], sizes: Sequence[Sequence[int]], spec: TensorSpec) -> Optional[str]:
    """Say why samples are not what an input takes, if they are not: the end of a sentence.

    `sizes`: the least and the most of each axis, without the batch.
    """
    wanted = list(spec.shape[1:])
    written = f", and the input takes {spec.dtype} [{', '.join(map(str, wanted))}] of each sample"
    if dtype != spec.dtype:
        return f"{written}; convert it with .astype"
    if len(sizes) != len(wanted):
        more = " (without the batch axis)" if len(sizes) == len(wanted) + 1 else ""
        return f"{written}{more}; reshape it"
    for axis, (least, most) in zip(wanted, sizes):
        if isinstance(axis, int) and not least == most == axis:
            return f"{written}; bring it to that size, or give the axis a name and a range in `axes`"
    return None
