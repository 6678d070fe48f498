"""What engines are fed: arrays by the names of the inputs, in the types that these want.

What every engine refuses before it looks at shapes stands here too: one sentence for each thing that people feed and
that is not a batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from enginewright.errors import EngineInputError
from enginewright.interface import TensorSpec

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]  # input name -> [N, ...]
Outputs = Mapping[str, Array]  # output name -> [N, ...]
NOT_IN_NUMPY = re.compile(r"bfloat16|float[468]_")  # not float64


def as_input(values: Array, spec: TensorSpec) -> Array:
    """What a recipe made, in the type that an engine's input wants.

    Args:
        values: [N, ...], as a recipe makes them (`enginewright.data.recipes`): float32 of images, or of the input's own
            type. Integers go into an input of fewer bits, such as TensorRT 8.6 makes of int64, where each fits.
        spec: of the input. int8 with a scale: round(value / scale), halves to even, clipped to -128..127, as
            QuantizeLinear does.

    Returns:
        The array itself if it is of that type already.

    Raises:
        EngineInputError: the values are pixels that were not preprocessed; the input is int8 and they hold NaN; it
            takes integers without a scale; an integer does not fit.
    """
    if values.dtype == spec.dtype and spec.scale is None:
        return values
    if values.dtype.kind == spec.dtype.kind == "i" and spec.scale is None:
        return _narrowed(values, spec)
    if values.dtype.kind != "f":
        raise wrong_dtype(spec.name, np.dtype(np.float32), values.dtype)
    if spec.dtype.kind == "f":
        return values.astype(spec.dtype, copy=False)
    if spec.dtype != np.int8 or spec.scale is None:
        raise EngineInputError(
            f"the input '{spec.name}' takes {spec.dtype} without a scale, which says nothing of preprocessed values;"
            " feed it yourself"
        )
    refuse_nan({spec.name: values})
    integers: Array = np.clip(np.rint(values / np.float32(spec.scale)), -128, 127).astype(np.int8)
    return integers


def _narrowed(values: Array, spec: TensorSpec) -> Array:
    """The same integers in another type. Raises EngineInputError."""
    limits = np.iinfo(spec.dtype)
    for value in (int(values.min()), int(values.max())) if values.size else ():
        if not limits.min <= value <= limits.max:
            raise EngineInputError(
                f"the input '{spec.name}' is {spec.dtype} in this engine, which ends at {limits.max}, and is fed"
                f" {value}; keep its integers within that, or build with a runtime that has {values.dtype}"
            )
    return values.astype(spec.dtype)


def engine_closed(path: Path) -> EngineInputError:
    """The fault of a call, or of the next step of an iterator, after the engine's `with` block."""
    return EngineInputError(f"{path.name} is closed: its `with` block has ended; load it again")


def require_mapping(feeds: object) -> None:
    """Raises EngineInputError unless `feeds` maps names to arrays."""
    if not isinstance(feeds, Mapping):
        raise EngineInputError(f"the feeds are {_kind(feeds)}; feed a dictionary of input name to array")


def require_iterable(batches: object) -> None:
    """Raises EngineInputError unless `batches` can be what `infer_many` takes: an iterable of feeds."""
    if isinstance(batches, Mapping):
        raise EngineInputError(
            "infer_many takes an iterable of feeds and is given one dictionary; put it in a list, or use infer"
        )
    if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes)):
        raise EngineInputError(
            f"infer_many takes an iterable of feeds and is given {_kind(batches)}; give it a list or a generator of"
            " dictionaries"
        )


def not_an_array(name: str, value: object, remedy: str = "feed a NumPy array") -> EngineInputError:
    """The fault of a value that is not an array, with what makes one of it."""
    if type(value).__module__.split(".")[0] == "torch":
        remedy += ", e.g. .detach().cpu().numpy() of it"
    elif isinstance(value, (list, tuple, int, float)):
        remedy += ", e.g. np.asarray(..., dtype) of it"
    elif isinstance(value, (str, Path)):
        remedy += "; preprocess() of enginewright.data makes one of image files"
    return EngineInputError(f"the input '{name}' is {_kind(value)}; {remedy}")


def refuse_unusual(name: str, value: object) -> None:
    """Raises EngineInputError for a tensor whose memory is not all that it stands for, or is in a type that NumPy
    lacks.
    """
    if getattr(value, "requires_grad", False) is True:
        raise EngineInputError(
            f"the input '{name}' is {_kind(value)} that requires a gradient, which an engine has not; feed .detach()"
            " of it"
        )
    dtype = str(getattr(value, "dtype", ""))
    if NOT_IN_NUMPY.search(dtype):
        raise EngineInputError(
            f"the input '{name}' is {dtype}, which NumPy lacks; convert it to the input's type, e.g. with .float()"
        )
    if getattr(value, "is_meta", False) is True:
        raise EngineInputError(
            f"the input '{name}' is {_kind(value)} on the device meta, which holds no values; feed one that does"
        )
    if getattr(value, "is_sparse", False) is True or "sparse" in str(getattr(value, "layout", "")):
        raise EngineInputError(f"the input '{name}' is {_kind(value)} that is sparse; feed .to_dense() of it")
    is_negated = getattr(value, "is_neg", None)
    if callable(is_negated) and is_negated() is True:
        raise EngineInputError(
            f"the input '{name}' is a view whose sign is still to be turned; feed .resolve_neg() of it"
        )


def require_plain_array(name: str, value: object) -> None:
    """Raises EngineInputError unless `value` is a NumPy array that holds its values itself."""
    if not isinstance(value, np.ndarray):
        refuse_unusual(name, value)
        raise not_an_array(name, value)
    if isinstance(value, np.ma.MaskedArray):
        raise EngineInputError(
            f"the input '{name}' is a masked array, and engines know no mask; feed .filled(...) of it"
        )
    if value.dtype.hasobject:
        raise EngineInputError(
            f"the input '{name}' holds Python objects, as an array of rows of unequal length does; feed one np.stack of"
            " arrays of equal shape"
        )


def wrong_dtype(name: str, want: np.dtype[Any], have: np.dtype[Any], scaled: bool = False) -> EngineInputError:
    """The fault of an array in another type than the input's; `scaled`: of an int8 input that stands for real
    numbers.
    """
    remedy = "convert it with .astype"
    if have == np.uint8 and (scaled or want.kind == "f"):
        remedy = (
            "these look like pixels as they are: use preprocess() of enginewright.data, which scales and normalizes"
            " them"
        )
        remedy += ", and as_input() of enginewright.feeds" if scaled else ""
    elif scaled:
        remedy = "use as_input() of enginewright.feeds, which divides by the input's scale"
    return EngineInputError(f"the input '{name}' must be {want} and is {have}; {remedy}")


def refuse_nan(feeds: Mapping[str, Array]) -> None:
    """For INT8 engines: quantization turns NaN into a finite number, and the answer would look like any other.

    Raises EngineInputError if a float array holds NaN. Costs about half a copy of the array.
    """
    for name, array in feeds.items():
        if array.size and _has_nan(array):
            raise EngineInputError(
                f"the input '{name}' holds NaN, which INT8 would turn into a finite number; mend what made it"
            )


def _has_nan(array: Array) -> bool:
    if array.dtype == np.float16:  # NumPy has no fast float16: anything beyond the bits of infinity is NaN
        return bool((array.view(np.uint16) & 0x7FFF).max() > 0x7C00)
    return array.dtype.kind == "f" and bool(np.isnan(array.min()))  # the least of anything and NaN is NaN


def joined(pieces: Sequence[tuple[dict[str, Array], int]]) -> dict[str, Array]:
    """The outputs of a batch that ran in pieces, given with the rows of each.

    Raises:
        EngineInputError: an output has no row for each row of the batch, so nothing says how its pieces go together.
    """
    if len(pieces) == 1:
        return pieces[0][0]
    for outputs, rows in pieces:
        for name, array in outputs.items():
            if array.shape[:1] != (rows,):
                raise EngineInputError(
                    f"the output '{name}' has shape {list(array.shape)} for a batch of {rows}, "
                    "so a batch beyond the engine's profile cannot be put together; feed smaller batches"
                )
    return {name: np.concatenate([outputs[name] for outputs, _ in pieces]) for name in pieces[0][0]}


def _kind(value: object) -> str:
    """The type with its article and, where that tells something, its package."""
    if value is None:
        return "None"
    kind = type(value)
    package = kind.__module__.split(".")[0]
    name = kind.__name__ if package in ("builtins", "numpy", "pathlib", "collections") else f"{package}.{kind.__name__}"
    return f"{'an' if name[0].lower() in 'aeio' or name == 'ndarray' else 'a'} {name}"
