"""The decoding of a detector stays in float in every TensorRT's INT8: by a precision for each of its layers, or without
Q/DQ nodes.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Precision, PrecisionMode
from enginewright.graph.decoding import decoding
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.tensorrt.builder import Job, build_engine
from enginewright.target import TargetFingerprint
from support.heads import DETR, DFL, END2END, YOLOX_GRID, YOLOX_RAW, read
from support.tensorrt_stand_in.builder import Record, stand_in

TARGET = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0")
HEADS = [
    pytest.param(DFL, "out", id="YOLO with DFL"),
    pytest.param(YOLOX_RAW, "out", id="YOLOX"),
    pytest.param(YOLOX_GRID, "out", id="YOLOX with a grid"),
    pytest.param(END2END, "out", id="end to end"),
    pytest.param(DETR, "boxes logits", id="DETR"),
]
WITH_FLAGS = [("8.6.0", PrecisionMode.implicit), ("10.3.0", PrecisionMode.implicit)]
BY_PAIRS = [("8.6.0", PrecisionMode.explicit), ("10.3.0", PrecisionMode.explicit), ("11.4.0", PrecisionMode.auto)]


def built(
    text: str, outputs: str, way: tuple[str, PrecisionMode], folder: Path
) -> tuple[BuiltEngine, Record, tuple[str, ...]]:
    """A plain INT8 engine with the decoding in float, what the library was asked, and what is kept."""
    (version, mode), model, record = way, read(text), Record()
    path = folder / "model.onnx"
    onnx.save(model, path)
    kept = decoding(model, outputs.split())
    tensors = [tensor for node in model.graph.node for tensor in (*node.input, *node.output)]
    recipe = QuantizationRecipe(CalibrationCache(Header.entropy, dict.fromkeys(tensors, 0.03)), float_decoding=kept)
    asked = BuildJob(Precision.int8, Build(precision_mode=mode), recipe, kept, batches(1, 2, 4))
    return build_engine(stand_in(version, record), Job(path, asked, TARGET)), record, kept


@pytest.mark.parametrize("way", WITH_FLAGS, ids=str)
@pytest.mark.parametrize(("text", "outputs"), HEADS)
def test_implicit_int8_is_obliged_to_compute_the_decoding_in_fp16(
    text: str, outputs: str, way: tuple[str, PrecisionMode], tmp_path: Path
) -> None:
    engine, record, kept = built(text, outputs, way, tmp_path)
    parsed = {node.name for node in record.model.graph.node}
    assert set(record.constrained) == set(kept) & parsed
    assert {precision for precision, _ in record.constrained.values()} == {stand_in(way[0], record).DataType.HALF}
    assert record.flags == {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"}
    assert engine.warnings == []  # what became a constant is missed by nobody


@pytest.mark.parametrize("way", BY_PAIRS, ids=str)
@pytest.mark.parametrize(("text", "outputs"), HEADS)
def test_explicit_int8_has_no_pair_in_the_decoding(
    text: str, outputs: str, way: tuple[str, PrecisionMode], tmp_path: Path
) -> None:
    engine, record, kept = built(text, outputs, way, tmp_path)
    graph = record.model.graph
    real = {node.name: node for node in graph.node}
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert rounded  # the layers before it
    assert not rounded & {tensor for name in kept if name in real for tensor in real[name].output}
    assert record.constrained == {}
    assert engine.warnings == []


def test_the_grid_of_a_head_becomes_a_constant_and_is_not_asked_for(tmp_path: Path) -> None:
    """Simplified for TensorRT, a model lacks nodes that the file has; naming them was an error."""
    _, record, kept = built(YOLOX_GRID, "out", ("11.4.0", PrecisionMode.auto), tmp_path)
    assert "grid" in kept
    assert "grid" not in {node.name for node in record.model.graph.node}
