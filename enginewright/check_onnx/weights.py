"""The numbers in a model: NaN and infinity, what FP16 cannot hold, and integer and double weights that TensorRT
narrows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from onnx.checker import ValidationError

from enginewright.check_onnx import infinities
from enginewright.check_onnx.origin import Origin
from enginewright.check_onnx.reading import dtype_name, walk, weights
from enginewright.check_onnx.report import Finding, Severity
from enginewright.graph import stored
from enginewright.graph.external import is_external

if TYPE_CHECKING:
    import pandas as pd

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
FP16_MAX = 65504.0
FP16_SMALLEST_NORMAL = 2.0**-14
FP16_SMALLEST_SUBNORMAL = 2.0**-24  # half of it and less rounds to zero
INT32 = np.iinfo(np.int32)
OVERFLOWS = 1e30
MOST_NAMED = 3
# signs: of what is beyond FP16; masks: it holds infinity, and beside it only zeros
COLUMNS = [
    "tensor",
    "dtype",
    "values",
    "nan",
    "infinite",
    "over_fp16",
    "subnormal",
    "zeroed",
    "over_int32",
    "overflowing",
    "signs",
    "masks",
]

Array = npt.NDArray[Any]


def external_files(model: onnx.ModelProto) -> list[str]:
    """The files that hold tensors outside of the model's own, relative to it."""
    outside = [tensor for tensor in weights(model.graph) if is_external(tensor)]
    return sorted({entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"})


def external_data(path: Path, model: onnx.ModelProto) -> Iterator[Finding]:
    """Tensors kept outside of the file: where the files must lie, and whether they do."""
    outside = [tensor for tensor in weights(model.graph) if is_external(tensor)]
    if not outside:
        return
    locations = external_files(model)
    remedy = "write one file with onnx.save_model(model, path, save_as_external_data=False)"
    missing = [name for name in locations if not (path.parent / name).is_file()]
    if missing:
        what = (
            f"{len(outside)} weights, the first '{outside[0].name}', lie outside of {path.name} in files that are"
            f" missing: {', '.join(missing)}"
        )
        yield Finding(Severity.fail, what, f"put them beside {path.name}, then {remedy}", outside[0].name)
        return
    what = (
        f"{len(outside)} weights, the first '{outside[0].name}', lie outside of {path.name} ({', '.join(locations)}),"
        " and its hash does not cover them"
    )
    yield Finding(Severity.fail, what, remedy, outside[0].name)


def unreadable(path: Path, model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """Stored tensors whose bytes are not what they claim to be. Those in files that are missing are not asked."""
    for tensor in weights(model.graph):
        if is_external(tensor) and not _is_there(path, tensor):
            continue
        claimed = f"{dtype_name(tensor.data_type)} {list(tensor.dims)}"
        fault = None
        if any(size < 0 for size in tensor.dims):
            fault = "has a negative size"
        elif dtype_name(tensor.data_type) == "?":
            fault = f"is of the data type {tensor.data_type}, which ONNX does not have"
        else:
            try:
                _values(path, tensor)
            except (
                ValueError,
                TypeError,
                OSError,
                RuntimeError,
                OverflowError,
                MemoryError,
                ValidationError,
            ) as problem:
                fault = f"cannot be read ({' '.join(str(problem).split())})"
        if fault:
            what = f"the weight '{tensor.name}' {claimed} {fault}"
            yield Finding(Severity.fail, what, f"the file is damaged: {origin.again}", tensor.name)


def findings(path: Path, model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """What there is to say about stored tensors. External files must exist (`external_data`), all be readable
    (`unreadable`).
    """
    import pandas as pd

    rows = [_figures(tensor, _values(path, tensor)) for tensor in weights(model.graph)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    yield from _not_finite(table, model, origin)
    large = table[table["over_fp16"] > 0]
    signs = dict(zip(large["tensor"], large["signs"]))
    masks = set(infinities.masks(model.graph, signs))
    products = set(infinities.masks(model.graph, signs, infinities.chosen(model.graph))) - masks
    arithmetic = table[~table["tensor"].isin(masks | products)]
    yield from _overflowing(arithmetic)
    yield from _scaled_masks(products)
    yield from _fp16(arithmetic, origin)
    yield from _narrowed(table, model, origin)


def _values(path: Path, tensor: onnx.TensorProto) -> Array:
    """The numbers of a stored tensor, mapped where they are many."""
    return onnx.numpy_helper.to_array(tensor, str(path.parent)) if is_external(tensor) else stored.array(tensor)


def _is_there(path: Path, tensor: onnx.TensorProto) -> bool:
    location = [entry.value for entry in tensor.external_data if entry.key == "location"]
    return bool(location) and (path.parent / location[0]).is_file()


def _figures(tensor: onnx.TensorProto, values: Array) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, 0)
    row.update(tensor=tensor.name, dtype=dtype_name(tensor.data_type), values=values.size, signs=(), masks=False)
    if tensor.data_type in FLOATS:
        size = np.abs(
            values.astype(np.float64) if tensor.data_type == TensorProto.DOUBLE else values.astype(np.float32)
        )
        row["nan"], row["infinite"] = int(np.isnan(size).sum()), int(np.isinf(size).sum())
        row["over_fp16"] = int(((size > FP16_MAX) & np.isfinite(size)).sum())
        row["overflowing"] = int(((size > OVERFLOWS) & np.isfinite(size)).sum())
        beyond = size > FP16_MAX
        row["signs"] = tuple({int(sign) for sign in np.sign(values[beyond]).reshape(-1).tolist()})
        row["masks"] = bool(row["infinite"]) and not size[np.isfinite(size)].any()
        row["subnormal"] = int(((size > 0) & (size < FP16_SMALLEST_NORMAL)).sum())
        row["zeroed"] = int(((size > 0) & (size <= FP16_SMALLEST_SUBNORMAL / 2)).sum())
    elif tensor.data_type in (TensorProto.INT64, TensorProto.UINT64, TensorProto.UINT32):
        row["over_int32"] = int(((values < INT32.min) | (values > INT32.max)).sum())
    return row


def _not_finite(table: pd.DataFrame, model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    """NaN is a fault anywhere, infinity where it does not only hide values behind a Softmax or a choice."""
    elsewhere = f"the file is damaged, or its weights diverged: {origin.again}"
    remedy = origin.says("the training diverged or the file is damaged: take another checkpoint", elsewhere)
    for row in table[(table["nan"] > 0) | (table["infinite"] > 0)].to_dict(orient="records"):
        tensor = str(row["tensor"])
        if row["nan"]:
            yield Finding(
                Severity.fail,
                f"the weight '{tensor}' holds {row['nan']} of {row['values']} values that are NaN",
                remedy,
                tensor,
            )
            continue
        what = f"the weight '{tensor}' holds {row['infinite']} of {row['values']} values that are infinity"
        end = infinities.ends(model.graph, tensor, row["signs"])
        if end is None or (end == "output" and not row["masks"]):
            yield Finding(Severity.fail, what, remedy, tensor)
        elif end == "output":
            what += ", and an output may hold them"
            yield Finding(
                Severity.warning, what, "such an output cannot be judged by SQNR: mask it after the model", tensor
            )


def _overflowing(table: pd.DataFrame) -> Iterator[Finding]:
    """A finite number that a product with anything but small ones makes infinite."""
    for row in table[table["overflowing"] > 0].to_dict(orient="records"):
        what = (
            f"the weight '{row['tensor']}' holds {row['overflowing']} of {row['values']} values over {OVERFLOWS:.0e},"
            " so that float32 overflows there"
        )
        yield Finding(
            Severity.fail,
            what,
            "the training diverged or the file is damaged: take another checkpoint",
            str(row["tensor"]),
        )


def _scaled_masks(tensors: Collection[str]) -> Iterator[Finding]:
    """(1 - mask) * least: in FP16 the least is minus infinity, and 0 times that is NaN."""
    for tensor in sorted(tensors):
        what = f"a mask is multiplied by '{tensor}', which is over {FP16_MAX:.0f}, the largest FP16 number"
        remedy = (
            "the FP16 engine gives NaN there if TensorRT makes it in implicit mode, and else computes the mask in FP32;"
            " -10000 instead hides as well"
        )
        yield Finding(Severity.warning, what, remedy, tensor)


def _fp16(table: pd.DataFrame, origin: Origin) -> Iterator[Finding]:
    """A subnormal weight loses digits in FP16, and TensorRT says so at every build; a value over 65504 becomes
    infinity.
    """
    if table["over_fp16"].sum():
        what = (
            f"{table['over_fp16'].sum()} weights are over {FP16_MAX:.0f}, the largest FP16 number:"
            f" {_worst(table, 'over_fp16')}"
        )
        remedy = origin.says(
            "rescale the layer, or train with weight decay", "rescale the layer in the model that the file was made of"
        )
        yield Finding(
            Severity.warning,
            what,
            "the FP16 engine overflows there if TensorRT makes it in implicit mode, and else keeps such layers in"
            f" FP32: {remedy}",
            _first(table, "over_fp16"),
        )
    if table["subnormal"].sum():
        share = table["subnormal"].sum() / table["values"].sum()
        what = (
            f"{table['subnormal'].sum()} weights ({share:.2%}) are subnormal in FP16 (below"
            f" {FP16_SMALLEST_NORMAL:.1e}), {table['zeroed'].sum()} of them become zero: {_worst(table, 'subnormal')}"
        )
        yield Finding(
            Severity.note, what, "validate_accuracy shows whether the FP16 engine suffers", _first(table, "subnormal")
        )


def _narrowed(table: pd.DataFrame, model: onnx.ModelProto, origin: Origin) -> Iterator[Finding]:
    double = table[table["dtype"] == "float64"]
    if len(double):
        what = f"{len(double)} weights are DOUBLE, which TensorRT narrows to FLOAT: {_names(double)}"
        remedy = origin.says("convert the model with `model.float()` before the export", "store float32 in the file")
        yield Finding(Severity.warning, what, remedy, str(double["tensor"].iloc[0]))
    if len(wide := table[table["dtype"].isin(["int64", "uint64"])]):
        what = f"{len(wide)} constants are INT64 (shapes and indices mostly), which TensorRT before 10 narrows to INT32"
        yield Finding(Severity.note, what, "nothing to do unless a value is beyond INT32", str(wide["tensor"].iloc[0]))
    # Exporters write the largest INT64 for "to the end" in Slice; TensorRT 8.6 clamps it, which means the same.
    sliced = {name for node in walk(model.graph) if node.proto.op_type == "Slice" for name in node.proto.input[1:3]}
    if len(beyond := table[(table["over_int32"] > 0) & ~table["tensor"].isin(sliced)]):
        what = (
            f"{beyond['over_int32'].sum()} values are beyond INT32, which TensorRT before 10 clamps:"
            f" {_worst(beyond, 'over_int32')}"
        )
        remedy = origin.says("keep integers in `forward` within 32 bits", "keep the file's integers within 32 bits")
        yield Finding(
            Severity.warning, what, f"{remedy}, or build with TensorRT 10 or later", _first(beyond, "over_int32")
        )


def _worst(table: pd.DataFrame, column: str) -> str:
    """`'conv.weight' 12, 'fc.weight' 3`: the tensors with the most."""
    most = table[table[column] > 0].sort_values([column, "tensor"], ascending=[False, True])
    more = f" and {len(most) - MOST_NAMED} more tensors" if len(most) > MOST_NAMED else ""
    return ", ".join(f"'{row.tensor}' {getattr(row, column)}" for row in most.head(MOST_NAMED).itertuples()) + more


def _first(table: pd.DataFrame, column: str) -> str:
    return str(table[table[column] > 0].sort_values([column, "tensor"], ascending=[False, True])["tensor"].iloc[0])


def _names(table: pd.DataFrame) -> str:
    more = f" and {len(table) - MOST_NAMED} more" if len(table) > MOST_NAMED else ""
    return ", ".join(f"'{name}'" for name in table["tensor"].head(MOST_NAMED)) + more
