"""A mask of -inf and an empty tensor are accepted; a NaN, an infinity from weights and a cache of another model are
not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright.calibration.cache import CalibrationCache
from enginewright.config import Calibration, CalibrationAlgorithm, Placement
from enginewright.errors import CalibrationMismatch
from enginewright.graph.activations import activations
from enginewright.graph.index import Graph
from enginewright.graph.qdq import insert_qdq
from enginewright.graph.reasons import left_in_float
from enginewright.graph.values import Values
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from support.networks import PLACEMENTS

ATTENTION = """
<ir_version: 8, opset_import: ["" : 17]>
attention (float[n, 4, 8] x) => (float[n, 4, 8] y) <float[8, 8] wq, float[8] bias, float[4, 4] mask, float[8, 8] wo>
{
   [q] m = MatMul (x, wq)
   [shift] q = Add (m, bias)
   [turn] k = Transpose <perm = [0, 2, 1]> (x)
   [scores] s = MatMul (q, k)
   [hide] h = Add (s, mask)
   [softmax] p = Softmax (h)
   [values] v = MatMul (p, x)
   [out] y = MatMul (v, wo)
}
"""
CAUSAL = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
MINMAX = Calibration(algorithm=CalibrationAlgorithm.minmax)


def attention(**changed: Any) -> ModelProto:
    """Causal attention; `changed`: initializers by name."""
    random = np.random.default_rng(0)
    held = {
        "wq": random.normal(size=(8, 8)) / 3,
        "bias": random.normal(size=8),
        "mask": CAUSAL,
        "wo": random.normal(size=(8, 8)) / 3,
        **changed,
    }
    model = onnx.parser.parse_model(ATTENTION)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in held.items()
    )
    return model


def images() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).normal(size=(8, 4, 8)).astype(np.float32)


def calibrated(
    model: ModelProto, folder: Path, algorithm: CalibrationAlgorithm = CalibrationAlgorithm.minmax
) -> CalibrationCache:
    onnx.save(model, folder / "model.onnx")
    return calibrate(
        folder / "model.onnx", [{"x": images()}, {"x": images()[::-1]}], replace(MINMAX, algorithm=algorithm, bins=256)
    )


@pytest.mark.parametrize("algorithm", list(CalibrationAlgorithm), ids=lambda algorithm: algorithm.name)
def test_a_mask_has_no_scale_and_all_else_has_one(tmp_path: Path, algorithm: CalibrationAlgorithm) -> None:
    cache = calibrated(attention(), tmp_path, algorithm)
    assert list(cache.scales) == ["x", "m", "q", "k", "s", "p", "v", "y"]
    assert all(left_in_float(attention(), cache.scales, placement) == {} for placement in Placement)


def with_value(name: str, value: float) -> dict[str, Any]:
    """One number of an initializer replaced."""
    held = {each.name: numpy_helper.to_array(each).copy() for each in attention().graph.initializer}
    held[name].flat[0] = value
    return {name: held[name]}


@pytest.mark.parametrize(
    ("changed", "tensor"),
    [
        pytest.param(with_value("wq", np.inf), "m", id="infinity in a weight"),
        pytest.param(with_value("wq", np.nan), "m", id="NaN in a weight"),
        pytest.param(with_value("bias", np.inf), "q", id="infinity in a bias"),
        pytest.param(with_value("wo", -np.inf), "y", id="infinity behind the mask"),
        pytest.param(with_value("mask", np.nan), "h", id="NaN in the mask"),
        pytest.param({"mask": np.full((4, 4), -np.inf)}, "p", id="nothing that is not masked"),
    ],
)
def test_what_is_no_mask_stops_with_the_name_of_the_tensor(
    changed: dict[str, Any], tensor: str, tmp_path: Path
) -> None:
    with pytest.raises(
        CalibrationMismatch, match=f"the tensor {tensor} holds a NaN or infinity on the calibration images"
    ):
        calibrated(attention(**changed), tmp_path)


def test_where_an_infinity_ends() -> None:
    model = attention()
    assert Values(Graph(model)).infinite == {"h": "mask"}


@PLACEMENTS
@pytest.mark.parametrize("gone", ["x", "m", "q", "s", "p", "v"])
def test_a_cache_of_another_model_is_refused(gone: str, placement: Placement, tmp_path: Path) -> None:
    """Each of these tensors has a scale in every cache of this model."""
    cache = calibrated(attention(), tmp_path)
    needed = {
        node.input[0]
        for node in insert_qdq(attention(), cache.scales, placement).graph.node
        if node.op_type == "QuantizeLinear"
    }
    scales = {tensor: scale for tensor, scale in cache.scales.items() if tensor != gone}
    if gone not in needed:
        assert insert_qdq(attention(), replace(cache, scales=scales).scales, placement).graph.node
        return
    with pytest.raises(CalibrationMismatch, match=f"no scale for {gone} of attention: it belongs to another model"):
        insert_qdq(attention(), replace(cache, scales=scales).scales, placement)


QUERY = """
<ir_version: 8, opset_import: ["" : 17]>
query (float[n, 4, 8] x) => (float[n, 2, 4] y) <float[1, 2, 8] learned, float[8, 8] w, int64[1] nought, int64[2] rest>
{
   all = Shape (x)
   count = Gather (all, nought)
   shape = Concat <axis = 0> (count, rest)
   [expand] e = Expand (learned, shape)
   [project] q = MatMul (e, w)
   k = Transpose <perm = [0, 2, 1]> (x)
   [scores] y = MatMul (q, k)
}
"""


def query() -> ModelProto:
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(QUERY)
    for name, value in {"learned": random.normal(size=(1, 2, 8)), "w": random.normal(size=(8, 8))}.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array([0]), "nought"), numpy_helper.from_array(np.array([2, 8]), "rest")]
    )
    return model


def test_only_what_a_layer_reads_is_calibrated_without_depending_on_the_image(tmp_path: Path) -> None:
    model = query()
    assert activations(model) == ["x", "e", "q", "k", "y"]
    model.graph.node.append(helper.make_node("Neg", ["e"], ["minus"]))  # which nothing in INT8 reads
    model.graph.output.append(helper.make_tensor_value_info("minus", TensorProto.FLOAT, None))
    cache = calibrated(model, tmp_path)
    assert list(cache.scales) == ["x", "e", "q", "k", "y"]
    learned = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "learned")
    assert cache.scales["e"] == pytest.approx(np.abs(learned).max() / 127)


@PLACEMENTS
def test_a_calibrator_that_skips_such_tensors_leaves_their_readers_in_float(
    placement: Placement, tmp_path: Path
) -> None:
    """As TensorRT's own may, and as caches of earlier versions do: calibrating again would not help."""
    cache = calibrated(query(), tmp_path)
    older = replace(cache, scales={tensor: scale for tensor, scale in cache.scales.items() if tensor not in ("e", "q")})
    left = left_in_float(query(), older.scales, placement)
    assert left.keys() == {"project", "scores"}
    assert left["project"].startswith("e does not depend on the image, and calib.cache has no scale for it")
    assert insert_qdq(query(), older.scales, placement).graph.node


def test_a_tensor_without_values_has_no_scale_and_its_reader_stays_in_float(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        found (float[n, 4, 8] x) => (float[n, 4, 8] y, float[m, 8] z) <float[8, 8] w, int64[2] row, float bound>
        {
           above = Greater (x, bound)
           where = NonZero (above)
           turned = Transpose (where)
           some = Cast <to = 1> (turned)
           wide = Tile (some, row)
           part = Slice (wide, nought, eight, axis)
           [sometimes] z = MatMul (part, w)
           [always] y = MatMul (x, w)
        }
        """)
    for name, value in {"nought": [0], "eight": [8], "axis": [1], "row": [1, 3]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    model.graph.initializer.append(
        numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32), "w")
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(100, np.float32), "bound"))
    cache = calibrated(model, tmp_path)
    assert list(cache.scales) == ["x", "y"]
    assert left_in_float(model, cache.scales, Placement.tensorrt) == {
        "sometimes": "part had no value on the calibration images"
    }


def test_images_without_a_row_are_no_images(tmp_path: Path) -> None:
    onnx.save(attention(), tmp_path / "model.onnx")
    empty = np.zeros((0, 4, 8), np.float32)
    with pytest.raises(CalibrationMismatch, match="there is no calibration image"):
        calibrate(tmp_path / "model.onnx", [{"x": empty}], MINMAX)
    both = calibrate(tmp_path / "model.onnx", [{"x": empty}, {"x": images()}], MINMAX)
    assert both == calibrate(tmp_path / "model.onnx", [{"x": images()}], MINMAX)
