"""The decoding of a model: what stands between its last layers with weights and its outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Placement
from enginewright.graph.decoding import decoding, layers_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]> head (float[N,8,4,4] x) => '

# YOLOv8: 16 bins for each of four distances, their expectation by a Conv of constants, and the classes after a sigmoid
DFL = f"""
{HEAD} (float[N,7,16] out)
<float[64,8,1,1] wb = {{}}, float[3,8,1,1] wc = {{}}, float[1,16,1,1] bins = {{}}, int64[4] s1 = {{0,4,16,16}},
 int64[3] s2 = {{0,4,16}}, int64[3] s3 = {{0,64,16}}, int64[3] s4 = {{0,3,16}}, float[1] stride = {{8}}>
{{
  [box] b = Conv(x, wb)
  [cls] c = Conv(x, wc)
  [rb] b3 = Reshape(b, s3)
  [rc] c3 = Reshape(c, s4)
  [bins4] b4 = Reshape(b3, s1)
  [turn] bt = Transpose<perm = [0,2,1,3]>(b4)
  [soft] p = Softmax<axis = 1>(bt)
  [dfl] d = Conv(p, bins)
  [flat] e = Reshape(d, s2)
  [scale] f = Mul(e, stride)
  [sigmoid] g = Sigmoid(c3)
  [cat] out = Concat<axis = 1>(f, g)
}}
"""
# the same expectation as a matrix product with a vector
MATMUL = f"""
{HEAD} (float[N,4,16] out)
<float[64,8,1,1] wb = {{}}, float[16,1] bins = {{}}, int64[4] s1 = {{0,4,16,16}}, int64[3] s2 = {{0,4,16}}>
{{
  [box] b = Conv(x, wb)
  [rb] b4 = Reshape(b, s1)
  [turn] bt = Transpose<perm = [0,1,3,2]>(b4)
  [soft] p = Softmax<axis = 3>(bt)
  [dfl] d = MatMul(p, bins)
  [flat] out = Reshape(d, s2)
}}
"""
# YOLOX, decoded in the graph; the anchors follow from a shape
YOLOX = f"""
{HEAD} (float[N,16,6] out)
<float[6,8,1,1] w = {{}}, int64[3] s = {{0,6,16}}, int64[1] st = {{0}}, int64[1] two = {{2}}, int64[1] four = {{4}},
 int64[1] six = {{6}}, int64[1] axis = {{2}}, float[1] stride = {{8}}>
{{
  [before] y = Relu(x)
  [head] h = Conv(y, w)
  [reshape] r = Reshape(h, s)
  [turn] t = Transpose<perm = [0,2,1]>(r)
  [xy] a = Slice(t, st, two, axis)
  [wh] b = Slice(t, two, four, axis)
  [rest] c = Slice(t, four, six, axis)
  [size] k = Shape(y)
  [float] kf = Cast<to = 1>(k)
  [first] k0 = Slice(kf, st, two)
  [cells] d = Add(a, k0)
  [exp] e = Exp(b)
  [stride] f = Mul(e, stride)
  [sigmoid] g = Sigmoid(c)
  [cat] out = Concat<axis = 2>(d, f, g)
}}
"""
# end to end: the best of a DFL head
END2END = f"""
{HEAD} (float[N,5,1] out)
<float[6,8,1,1] w = {{}}, int64[3] s = {{0,6,16}}, int64[1] k = {{5}}>
{{
  [head] h = Conv(x, w)
  [reshape] r = Reshape(h, s)
  [best] m = ReduceMax<axes = [1], keepdims = 0>(r)
  [topk] v, i = TopK(m, k)
  [two] vi = Unsqueeze(v, axes)
  [out] out = Identity(vi)
}}
""".replace("int64[1] k = {5}>", "int64[1] k = {5}, int64[1] axes = {2}>")
DETR = f"""
{HEAD} (float[N,8,4,4] boxes, float[N,8,4,3] logits)
<float[4,4] wb = {{}}, float[4] bias = {{}}, float[4,3] wl = {{}}>
{{
  [attention] q = Softmax(x)
  [mixed] z = MatMul(q, x)
  [linear] h = MatMul(z, wb)
  [added] b = Add(h, bias)
  [sigmoid] boxes = Sigmoid(b)
  [classes] logits = MatMul(z, wl)
}}
"""
CLASSIFIER = f"""
{HEAD} (float[N,3] out)
<float[128,3] w = {{}}>
{{
  [flat] f = Flatten(x)
  [fc] h = MatMul(f, w)
  [soft] out = Softmax(h)
}}
"""
CASES = [
    pytest.param(DFL, ["out"], "rb rc bins4 turn soft dfl flat scale sigmoid cat", "dfl", id="DFL as a Conv"),
    pytest.param(MATMUL, ["out"], "rb turn soft dfl flat", "dfl", id="DFL as a MatMul"),
    pytest.param(YOLOX, ["out"], "reshape turn xy wh rest float first cells exp stride sigmoid cat", "", id="YOLOX"),
    pytest.param(END2END, ["out"], "reshape best topk two out", "", id="end to end"),
    pytest.param(DETR, ["boxes", "logits"], "added sigmoid", "", id="DETR"),
    pytest.param(DETR, ["logits"], "", "", id="logits alone"),
    pytest.param(CLASSIFIER, ["out"], "soft", "", id="a classifier's softmax"),
]


def read(text: str) -> onnx.ModelProto:
    """Weights that the text leaves open are drawn."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(text)
    for tensor in model.graph.initializer:
        count = int(np.prod(tensor.dims))
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.float_data) != count:
            del tensor.float_data[:]
            values = np.arange(count) if tensor.name == "bins" else rng.normal(0, 0.3, count)
            tensor.float_data.extend(values.astype(np.float32).tolist())
    return model


@pytest.mark.parametrize(("text", "outputs", "kept", "layers"), CASES)
def test_what_follows_the_last_layers_with_weights(text: str, outputs: list[str], kept: str, layers: str) -> None:
    model = read(text)
    found = decoding(model, outputs)
    assert list(found) == kept.split()
    assert list(layers_of(model, found)) == layers.split()


@pytest.mark.parametrize("placement", Placement)
def test_the_decoding_gets_no_pair_though_it_has_scales(placement: Placement) -> None:
    model = read(DFL)
    tensors = [name for node in model.graph.node for name in (*node.input, *node.output)]
    scales = CalibrationCache(Header.minmax, dict.fromkeys(tensors, 0.1))

    def quantized(recipe: QuantizationRecipe) -> set[str]:
        result = quantize(model, recipe, placement).model
        pairs = {node.output[0] for node in result.graph.node if node.op_type == "DequantizeLinear"}
        return {node.name for node in result.graph.node if pairs & set(node.input)}

    kept = decoding(model, ["out"])
    assert "dfl" in quantized(QuantizationRecipe(scales))
    with_rule = quantized(QuantizationRecipe(scales, float_decoding=kept))
    assert {"box", "cls"} <= with_rule
    assert not with_rule & {"soft", "dfl", "flat", "scale", "sigmoid", "cat"}
