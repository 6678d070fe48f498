"""The nine small networks hold what they are there for, and ONNX Runtime computes what PyTorch does."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

pytest.importorskip("torch")

from enginewright.config import Model
from support.compared import compared
from support.small_models import SMALL_MODELS, exported, network, with_shape_arithmetic

pytestmark = pytest.mark.slow

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
HOLDS = {
    "vit": {"LayerNormalization", "Softmax", "Erf", "Cast", "Expand"},
    "swin": {"LayerNormalization", "Softmax", "Slice", "Gather"},
    "multihead_attention": {"LayerNormalization", "Softmax", "Cast"},
    "detr_queries": {"LayerNormalization", "Softmax", "Tile"},
    "squeeze_excite": {"GlobalAveragePool", "HardSigmoid"},
    "unet": {"ConvTranspose", "MaxPool", "Concat"},
    "grn": {"ReduceL2", "Div", "LayerNormalization"},
    "mixer": {"LayerNormalization", "Erf", "Transpose"},
    "yolo_head": {"Range", "Cast", "Exp", "Sigmoid", "Resize"},
}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_a_small_model_exports_with_what_it_is_there_for(name: str) -> None:
    model = with_shape_arithmetic(name)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    types = Counter(node.op_type for node in model.graph.node)
    assert set(types) >= HOLDS[name]
    assert sum(types[product] for product in PRODUCTS) == SMALL_MODELS[name].products
    interface = Model(name=name, inputs=SMALL_MODELS[name].inputs, outputs=[SMALL_MODELS[name].output_name])
    assert compared(network(name), model.SerializeToString(), interface).largest < 1e-5


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_what_the_export_stage_writes_computes_the_same(name: str) -> None:
    interface = Model(name=name, inputs=SMALL_MODELS[name].inputs, outputs=[SMALL_MODELS[name].output_name])
    model = exported(name)
    onnx.checker.check_model(model, full_check=True)
    assert compared(network(name), model.SerializeToString(), interface).largest < 1e-5
