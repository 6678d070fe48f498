"""What detectors, a classifier and a segmenter do with the answers of their last layers, as small ONNX graphs of the
forms in which they are exported.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

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
# YOLOX as its export_onnx.py writes it: three convolutions a level, and boxes in strides and logarithms
YOLOX_RAW = f"""
{HEAD} (float[N,16,8] out)
<float[4,8,1,1] wr = {{}}, float[1,8,1,1] wo = {{}}, float[3,8,1,1] wc = {{}}, int64[3] s = {{0,8,16}}>
{{
  [reg] r = Conv(x, wr)
  [obj] o = Conv(x, wo)
  [cls] c = Conv(x, wc)
  [obj_sigmoid] os = Sigmoid(o)
  [cls_sigmoid] cs = Sigmoid(c)
  [level] l = Concat<axis = 1>(r, os, cs)
  [reshape] f = Reshape(l, s)
  [turn] out = Transpose<perm = [0,2,1]>(f)
}}
"""
# the same with its boxes decoded: their grid is counted from the size of a map, which is known before anything runs
YOLOX_GRID = f"""
{HEAD} (float[N,16,8] out)
<float[8,8,1,1] w = {{}}, int64[3] s = {{0,8,16}}, int64 zero = {{0}}, int64 one = {{1}}, int64 place = {{3}},
 int64[1] st = {{0}}, int64[1] two = {{2}}, int64[1] eight = {{8}}, int64[1] axis = {{2}}, int64[4] five = {{1,1,4,4}},
 int64[3] column = {{1,16,1}}, float[1] stride = {{8}}>
{{
  [head] h = Conv(x, w)
  [reshape] r = Reshape(h, s)
  [turn] t = Transpose<perm = [0,2,1]>(r)
  [size] k = Shape(h)
  [width] n = Gather(k, place)
  [count] g = Range(zero, n, one)
  [rows] e = Expand(g, five)
  [cells] ce = Reshape(e, column)
  [grid] gf = Cast<to = 1>(ce)
  [xy] a = Slice(t, st, two, axis)
  [rest] b = Slice(t, two, eight, axis)
  [centre] d = Add(a, gf)
  [stride] f = Mul(d, stride)
  [exp] ex = Exp(b)
  [cat] out = Concat<axis = 2>(f, ex)
}}
"""
# end to end: the best of all boxes, picked in the graph
END2END = f"""
{HEAD} (float[N,5,6] out)
<float[6,8,1,1] w = {{}}, int64[3] s = {{0,6,16}}, int64[1] k = {{5}}, int64[1] last = {{2}}, int64[1] first = {{1}},
 int64[3] four = {{1,4,1}}, int64[1] zero = {{0}}, int64[1] upto = {{4}}>
{{
  [head] h = Conv(x, w)
  [reshape] r = Reshape(h, s)
  [best] m = ReduceMax<axes = [1], keepdims = 0>(r)
  [topk] v, i = TopK(m, k)
  [scores] vs = Unsqueeze(v, last)
  [which] c = Cast<to = 1>(i)
  [classes] cs = Unsqueeze(c, last)
  [places] p = Unsqueeze(i, first)
  [rows] n = Expand(p, four)
  [boxes] b = Slice(r, zero, upto, first)
  [found] g = GatherElements<axis = 2>(b, n)
  [turn] gt = Transpose<perm = [0,2,1]>(g)
  [cat] out = Concat<axis = 2>(gt, vs, cs)
}}
"""
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
SEGMENTER = f"""
{HEAD} (float[N,3,8,8] out)
<float[3,8,1,1] w = {{}}, float[4] scales = {{1,1,2,2}}>
{{
  [head] h = Conv(x, w)
  [resize] out = Resize<mode = "linear">(h, , scales)
}}
"""


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
