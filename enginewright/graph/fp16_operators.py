"""Operators by what they do to the range of numbers that FP16 has: the tables of `fp16_kept`."""

from __future__ import annotations

from onnx import TensorProto

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "DeformConv", "Attention")
BOUNDED = (  # their output is of ordinary size, whatever they read
    "Softmax", "LogSoftmax", "Hardmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Softsign", "Sin", "Cos", "Atan",
    "Asin", "Acos", "Log", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
    "RMSNormalization", "LpNormalization", "MeanVarianceNormalization",
)  # fmt: skip
# What they make leaves FP16's range while all that they read is within it; and x - floor(x) must not round x.
STRETCHING = (
    "Pow", "Exp", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceProd", "CumSum", "Reciprocal", "Sqrt", "Log", "LRN", "LpNormalization", "LpPool", "GlobalLpPool",
    "MeanVarianceNormalization", "Det", "Mod", "Floor", "Ceil", "Round", "DFT", "STFT",
)  # fmt: skip
COORDINATES = ("Range", "NonMaxSuppression", "GridSample", "RoiAlign", "MaxRoiPool")
# A rounded input is another answer: operator -> the first of its inputs that is followed back to where it is made.
STEPS = {
    **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"), 0),
    **dict.fromkeys(("Floor", "Ceil", "Round", "Sin", "Cos", "Mod", "Range", "NonMaxSuppression"), 0),
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool"), 1),
}
SENSITIVE = {**STEPS, "Sqrt": 0, "Reciprocal": 0, "Log": 0, "Div": 1}  # small inputs count as much as large ones
SCALING = ("Mul", "Div", "Reciprocal", "Sqrt", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul")
JOINING = ("Add", "Sub", "Sum", "Mean", "Where", "Concat", "ScatterND", "ScatterElements", "OneHot")
ELEMENTWISE = (
    "Add", "Sub", "Sum", "Mean", "Where", "Mul", "Div", "Pow", "Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal",
    "Min", "Max", "Clip", "Floor", "Ceil", "Round", "Mod",
)  # fmt: skip
# Operator -> the side of the range that an input must lie beyond to matter: above (1), below (-1), neither (0).
LIMITING = {"Max": {0: 1}, "Min": {0: -1}, "Clip": {1: 1, 2: -1}, "Pad": {2: 0}}
PASSING = (
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Identity", "Cast", "Dropout",
    "Trilu", "AffineGrid", "Concat", "Slice", "Gather", "Split",
)  # fmt: skip
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
INTEGERS = ("INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64")  # FP16 has all of INT8 and UINT8
WIDE_INTEGERS = tuple(int(TensorProto.DataType.Value(name)) for name in INTEGERS)
