"""The decoding of a model: what stands between its last layers with weights and its outputs."""

from __future__ import annotations

import onnx
import pytest

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Placement
from enginewright.graph.decoding import decoding, layers_of
from support.heads import CLASSIFIER, DETR, DFL, END2END, MATMUL, SEGMENTER, YOLOX, YOLOX_GRID, YOLOX_RAW, read

CASES = [
    pytest.param(DFL, ["out"], "rb rc bins4 turn soft dfl flat scale sigmoid cat", "dfl", id="DFL as a Conv"),
    pytest.param(MATMUL, ["out"], "rb turn soft dfl flat", "dfl", id="DFL as a MatMul"),
    pytest.param(YOLOX, ["out"], "reshape turn xy wh rest float first cells exp stride sigmoid cat", "", id="YOLOX"),
    pytest.param(
        YOLOX_RAW, ["out"], "obj_sigmoid cls_sigmoid level reshape turn", "", id="YOLOX, its boxes not decoded"
    ),
    pytest.param(
        YOLOX_GRID, ["out"], "reshape turn grid xy rest centre stride exp cat", "", id="integers alone are left out"
    ),
    pytest.param(
        END2END,
        ["out"],
        "reshape best topk scores which classes boxes found turn cat",
        "",
        id="end to end",
    ),
    pytest.param(DETR, ["boxes", "logits"], "added sigmoid", "", id="DETR"),
    pytest.param(DETR, ["logits"], "", "", id="logits alone"),
    pytest.param(CLASSIFIER, ["out"], "soft", "", id="a classifier's softmax"),
    pytest.param(SEGMENTER, ["out"], "resize", "", id="a segmenter's resize"),
]


@pytest.mark.parametrize(("text", "outputs", "kept", "layers"), CASES)
def test_what_follows_the_last_layers_with_weights(text: str, outputs: list[str], kept: str, layers: str) -> None:
    model = read(text)
    found = decoding(model, outputs)
    assert list(found) == kept.split()
    assert list(layers_of(model, found)) == layers.split()


# what each placement rounds to 8 bits behind the last layers where no rule keeps it in float
ROUNDED = {
    "DFL as a Conv": ("soft", "rb rc bins4 turn soft dfl flat sigmoid"),
    "DFL as a MatMul": ("soft", "rb turn soft dfl flat"),
    "YOLOX": ("", "reshape turn"),
    "YOLOX, its boxes not decoded": ("", "obj_sigmoid cls_sigmoid level reshape turn"),
    "integers alone are left out": ("", "reshape turn"),
    "end to end": ("", "reshape"),
}
REACHED = [
    pytest.param(placement, *case.values[:2], rounded, id=f"{case.id}, {placement.name}")
    for case in CASES
    for placement, rounded in zip((Placement.tensorrt, Placement.onnxruntime), ROUNDED.get(str(case.id), ("", "")))
]


@pytest.mark.parametrize(("placement", "text", "outputs", "rounded"), REACHED)
def test_the_rule_keeps_what_int8_would_round(
    placement: Placement, text: str, outputs: list[str], rounded: str
) -> None:
    model = read(text)
    kept = decoding(model, outputs)
    tensors = [name for node in model.graph.node for name in (*node.input, *node.output)]
    scales = CalibrationCache(Header.minmax, dict.fromkeys(tensors, 0.1))

    def rounds(recipe: QuantizationRecipe) -> set[str]:
        quantized = quantize(model, recipe, placement).model
        onnx.checker.check_model(quantized)
        dequantized = {node.output[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
        weighing = {node.name for node in quantized.graph.node if dequantized & set(node.input[1:2])}
        assert not weighing & set(layers_of(model, recipe.float_decoding))
        read_by_q = {node.input[0] for node in quantized.graph.node if node.op_type == "QuantizeLinear"}
        return {node.name for node in quantized.graph.node if read_by_q & set(node.output)}

    without, ruled = (rounds(QuantizationRecipe(scales, float_decoding=nodes)) for nodes in ((), kept))
    assert without & set(kept) == set(rounded.split())
    assert not ruled & set(kept)
    assert ruled == without - set(kept)  # and nothing else
