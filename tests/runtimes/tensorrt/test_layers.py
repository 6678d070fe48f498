"""Layers and their precisions, from texts that TensorRT really wrote: 8.6's and 10's inspector, 8.6's and
TensorRT-RTX's build logs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Optional

import pytest

from enginewright.errors import EnginewrightError
from enginewright.runtimes.tensorrt.layers import (
    Layer,
    by_precision,
    completed,
    from_inspector,
    from_log,
    is_opaque,
    precision_of,
    precisions,
    running_in,
)

# NVIDIA, TensorRT Developer Guide, "Engine Inspector", with the metadata of 8.6 (raw 0x1e between nodes) and a reformat
# before it.
INSPECTOR_8_6 = """{"Layers": [{
  "Name": "Reformatting CopyNode for Input Tensor 0 to conv_a + relu_a",
  "LayerType": "Reformat",
  "Inputs": [{"Name": "input", "Dimensions": [16,3,28,28], "Format/Datatype": "Row major linear FP32"}],
  "Outputs": [{"Name": "Reformatted", "Dimensions": [16,3,28,28], "Format/Datatype": "Four wide channel vectorized \
row major Int8 format"}],
  "ParameterType": "Reformat", "TacticValue": "0x0"
},{
  "Name": "conv_a + relu_a",
  "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "x", "Dimensions": [16,512,28,28], "Format/Datatype": "Thirty-two wide channel vectorized row \
major Int8 format"}],
  "Outputs": [{"Name": "y", "Dimensions": [16,256,28,28], "Format/Datatype": "Thirty-two wide channel vectorized row \
major Int8 format"}],
  "ParameterType": "Convolution", "Weights": {"Type": "Int8", "Count": 131072}, "Bias": {"Type": "Float", "Count": 256},
  "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32", "Metadata": "[ONNX Layer: \
conv_a]\x1e[ONNX Layer: relu_a]"
},{
  "Name": "conv_b + PWN(clip_b)",
  "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "y", "Dimensions": [16,256,28,28], "Format/Datatype": "Channel major FP16 format where channel \
% 8 == 0"}],
  "Outputs": [{"Name": "z", "Dimensions": [16,256,28,28], "Format/Datatype": "Channel major FP16 format where channel \
% 8 == 0"}],
  "ParameterType": "Convolution", "Weights": {"Type": "Half", "Count": 131072}, "TacticName": "sm80_xmma", \
"Metadata": ""
}], "Bindings": ["input", "z"]}"""

LOG_8_6 = """Engine Layer Information:
Layer(Reformat): Reformatting CopyNode for Input Tensor 0 to Conv_0, Tactic: 0x0000000000000000, \
inputs[Float(1,3,512,768)] -> Reformatted[Int8(1,3,512,768)]
Layer(CaskConvolution): Conv_0 + PWN(Clip_3), Tactic: 0x02d9f5211e4d2d82, Reformatted[Int8(1,3,512,768)] -> \
395[Int8(1,32,256,384)]
Layer(CudaDepthwiseConvolution): Conv_4 + PWN(Clip_7), Tactic: 0xfffffffffffffffd, 395[Int8(1,32,256,384)] -> \
400[Half(1,32,256,384)]
Layer(CaskConvolution): Conv_8, Tactic: -37215280111360163, 400[Half(1,32,256,384)] -> 666[Half(1,16,256,384)]
"""

# TensorRT-RTX 1.7.1.116, INT8 from Q/DQ: quantize, convolution, rescale.
LOG_RTX = """Layers:
Name: __mye1204_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, \
Metadata: 
Name: __myl_MulMinMaxRounCast_myl0_1, LayerType: kgen, Inputs: [ { Name: input, Dimensions: [-1,3,32,32], Strides: \
[3072,1024,32,1], StrideOrder: [3,2,1,0], Datatype: Float, Format: (Linear) Row major linear format }], Constants: [ \
{ Name: c, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Float, Format: (Linear) Row major linear format \
}], Outputs: [ { Name: q, Dimensions: [-1,4,32,32], Strides: [4096,1,128,4], StrideOrder: [3,0,2,1], Datatype: Int8, \
Format: (NHWC) Channel major format }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: input_Q][ONNX Layer: conv_0]
Name: conv_0_myl0_2, LayerType: correlation, Inputs: [ { Name: q, Dimensions: [-1,4,32,32], Strides: [4096,1,128,4], \
StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: \
[16,4,7,7], Strides: [196,1,28,4], StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }], \
Outputs: [ { Name: o, Dimensions: [-1,16,16,16], Strides: [4096,1,256,16], StrideOrder: [3,0,2,1], Datatype: Float, \
Format: (NHWC) Channel major format }], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: \
conv_0][ONNX Layer: input_DQ]
Name: __myl_MulAddRelu_myl0_3, LayerType: kgen, Inputs: [ { Name: q2, Dimensions: [-1,16], Strides: [16,1], \
StrideOrder: [1,0], Datatype: Int8, Format: (Linear) Row major linear format }], Constants: [], Outputs: [ { Name: \
logits, Dimensions: [-1,16], Strides: [16,1], StrideOrder: [1,0], Datatype: Float, Format: (Linear) Row major linear \
format }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: conv_0][ONNX Layer: conv_9]

I/O Tensors:
 Name: input, IOMode: Input, DataType: Float, Dimensions: [-1,3,32,32], Location: Device
"""  # noqa: W291 - as it was written


@pytest.mark.parametrize(
    ("description", "precision"),
    [
        ("Thirty-two wide channel vectorized row major Int8 format", "INT8"),
        ("Channel major FP16 format where channel % 8 == 0", "FP16"),
        ("Half", "FP16"),
        ("Row major linear FP32", "FP32"),
        ("Float", "FP32"),
        ("BFloat16", "BF16"),
        ("FP8E4M3", "FP8"),
        ("Int32", "INT32"),
        ("Row major linear BOOL", "INT32"),
        ("(NHWC) Channel major format", None),
    ],
)
def test_the_words_of_tensorrt_for_a_precision(description: str, precision: Optional[str]) -> None:
    assert precision_of(description) == precision


def test_the_inspector_of_8_6() -> None:
    layers = from_inspector(INSPECTOR_8_6)
    assert [layer.precision for layer in layers] == [None, "INT8", "FP16"]  # a reformat computes nothing
    assert layers[1].nodes == ("conv_a", "relu_a")
    assert by_precision(layers) == {"FP16": 1, "INT8": 1}
    assert running_in("INT8", ["conv_a", "conv_b"], layers) == ["conv_a"]
    assert running_in("FP16", ["conv_a", "conv_b"], layers) == ["conv_b"]  # by its name, as the metadata is empty


def test_the_inspector_of_11_splits_format_and_type() -> None:
    text = json.dumps(
        {
            "Layers": [
                {
                    "Name": "gemm",
                    "LayerType": "gemm",
                    "Inputs": [{"Name": "x", "Format": "Row major", "DataType": "Int8"}],
                    "Outputs": [],
                }
            ]
        }
    )
    assert by_precision(from_inspector(text)) == {"INT8": 1}


def test_the_log_of_8_6() -> None:
    layers = from_log(LOG_8_6)
    assert [layer.precision for layer in layers] == [None, "INT8", "INT8", "FP16"]
    assert running_in("INT8", ["Conv_0", "Conv_4", "Conv_8"], layers) == ["Conv_0", "Conv_4"]


def test_the_log_of_rtx() -> None:
    layers = from_log(LOG_RTX)
    assert by_precision(layers) == {"FP32": 1, "INT8": 2}
    # conv_9 appears in a kernel that only rescales; its product is not computed there
    assert running_in("INT8", ["conv_0", "conv_9"], layers) == ["conv_0"]
    assert layers[2].inputs[0] == {
        "Name": "q",
        "Dimensions": [-1, 4, 32, 32],
        "Datatype": "Int8",
        "Format": "(NHWC) Channel major format",
    }


def test_layers_from_a_log_are_kept_in_the_inspectors_form() -> None:
    layers = from_log(LOG_RTX)
    assert from_inspector(json.dumps({"Layers": [layer.to_dict() for layer in layers]})) == layers


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param('{"Layers": ["conv1 + relu1"]}', id="names alone"),
        pytest.param("{}", id="none"),
    ],
)
def test_an_engine_without_details_says_how_to_get_them(text: str) -> None:
    with pytest.raises(EnginewrightError, match="build the engine with detailed profiling verbosity"):
        from_inspector(text)


def test_a_log_without_layers_gives_none() -> None:
    assert from_log("") == []


def test_what_the_inspector_leaves_out_comes_from_the_log() -> None:
    """As TensorRT 8.6 describes engines with a dynamic batch; of a convolution with a pooling layer fused to it the
    weights' type is missing too.
    """
    unknown = {"Inputs": [{"Name": "input", "Format/Datatype": "N/A due to dynamic shapes"}], "Outputs": []}
    entries = [
        {"Name": "stem + relu + pool", "LayerType": "CaskConvActPool", **unknown},
        {"Name": "conv", "LayerType": "CaskConvolution", "Weights": {"Type": "Half", "Count": 8}, **unknown},
        {"Name": "shuffled", "LayerType": "Shuffle", **unknown},
    ]
    log = """Engine Layer Information:
Layer(CaskConvActPool): stem + relu + pool, Tactic: 0x1, input[Int8(1,3,8,8)] -> pooled[Int8(1,4,4,4)]
Layer(CaskConvolution): conv, Tactic: 0x2, pooled[Int8(1,4,4,4)] -> conv_out[Half(1,4,4,4)]
Layer(Shuffle): shuffled, Tactic: 0x3, conv_out[Half(1,4,4,4)] -> output[Half(1,64)]"""
    inspected = json.dumps({"Layers": entries})
    assert [layer.precision for layer in from_inspector(inspected)] == [None, "FP16", None]
    kept = completed(inspected, log)
    found = from_inspector(json.dumps(kept))
    assert [layer.precision for layer in found] == ["INT8", "FP16", None]
    assert running_in("INT8", ["stem", "conv"], found) == ["stem"]
    assert completed(inspected, "") == json.loads(inspected)


RECORDED = json.loads(
    (Path(__file__).parents[3] / "docs" / "measurements" / "h200-tensorrt-8.6.0" / "mixed.json").read_text()
)


@pytest.mark.parametrize(
    "engine", ["fp16", "int8_corrected", "pinned", "layers", "int8", "pinned_obliged", "layers_obliged"]
)
def test_the_layers_of_recorded_engines(engine: str) -> None:
    """Names and precisions as an H200 had them (explicit ones were kept shortened), and what the build said of the 50
    convolutions and products.
    """
    layers = [
        Layer(name, "Reformat" if name.startswith("Reformatting") else "", precision or None)
        for name, _, precision in RECORDED["layers"]["result"][engine]
    ]
    recorded = RECORDED[f"build {engine}"]["result"]
    nodes = sorted(
        {part for layer in layers for part in layer.name.split(" + ") if re.fullmatch(r"/\S+/(Conv|Gemm)", part)}
    )
    assert len(nodes) == recorded["quantizable"]
    found = precisions(nodes, layers)
    assert set(found) == set(nodes)
    assert sum(precision == "INT8" for precision in found.values()) == recorded["quantized"]
    assert by_precision(layers) == recorded["layers"]


def test_a_part_that_myelin_compiled_is_opaque() -> None:
    """Of a transformer under 8.6, as the log and the inspector name it (also in NVIDIA/TensorRT, issue 2576): its types
    say nothing of what is inside.
    """
    log = """Engine Layer Information:
Layer(CaskConvolution): patches, Tactic: 0x15ed3cbe2a, in[Int8(8,3,224,224)] -> p[Int8(8,768,14,14)]
Layer(Reformat): Reformatting CopyNode for Input Tensor 0 to {ForeignNode[cls...head]}, Tactic: 0x0, \
p[Int8(8,768,14,14)] -> q[Half(8,768,14,14)]
Layer(Myelin): {ForeignNode[cls...head]}, Tactic: 0x0000000000000000, q[Half(8,768,14,14)] -> logits[Half(8,1000)]"""
    for layers in (from_log(log), from_inspector(json.dumps({"Layers": [layer.to_dict() for layer in from_log(log)]}))):
        assert [is_opaque(layer) for layer in layers] == [False, False, True]
        assert by_precision(layers) == {"FUSED": 1, "INT8": 1}
        assert precisions(["patches", "qkv", "head"], layers) == {"patches": "INT8", "qkv": None, "head": None}
        assert running_in("FP16", ["qkv"], layers) == []


def test_a_node_that_no_layer_bears_is_unknown_only_beside_a_fused_node() -> None:
    layers = [Layer("conv_a", "CaskConvolution", "INT8")]
    assert precisions(["conv_a", "gone"], layers) == {"conv_a": "INT8"}
    assert precisions(["conv_a", "gone"], [*layers, Layer("{ForeignNode[x...y]}", "Myelin", None)]) == {
        "conv_a": "INT8",
        "gone": None,
    }


def test_layers_that_were_joined_side_by_side_count_each() -> None:
    layers = [
        Layer("w_q + QuantizeLinear_7 + conv_q + relu_q || w_k + conv_k || PWN(PWN(conv_v))", "CaskConvolution", "INT8")
    ]
    assert running_in("INT8", ["conv_q", "conv_k", "conv_v", "relu_q"], layers) == [
        "conv_q",
        "conv_k",
        "conv_v",
        "relu_q",
    ]


def test_what_computes_the_product_counts_before_what_touches_it() -> None:
    """A pooling layer in INT8 that bears the convolution's name, and a product in two kernels of which one is float."""
    layers = [Layer("a", "correlation", "FP32", ("conv",)), Layer("b", "maxpool", "INT8", ("conv",))]
    assert precisions(["conv"], layers) == {"conv": "FP32"}
    assert precisions(["conv"], [Layer("a", "gemm", "INT8", ("conv",)), Layer("b", "gemm", "FP16", ("conv",))]) == {
        "conv": "FP16"
    }
    assert precisions(["conv"], [Layer("b", "maxpool", "INT8", ("conv",))]) == {
        "conv": "INT8"
    }  # fused with it: there is no other


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32", "INT8"),
        ("sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64_warpgroupsize1x1x1", "FP16"),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128", "FP32"),
        ("", None),
    ],
)
def test_a_kernel_is_known_by_its_name_where_a_dynamic_batch_hides_the_types(
    tactic: str, precision: Optional[str]
) -> None:
    tensors = [{"Name": "x", "Format/Datatype": "N/A due to dynamic shapes"}]
    entry = {"Name": "fc", "LayerType": "MatrixMultiply", "TacticName": tactic, "Inputs": tensors, "Outputs": []}
    (layer,) = from_inspector(json.dumps({"Layers": [entry]}))
    assert layer.precision == precision
