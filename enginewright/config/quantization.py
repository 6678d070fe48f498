"""INT8: scales, drift, sensitivity of layers, the mixture with FP16, and the gate that judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from enginewright.config.choices import (
    CalibrationAlgorithm,
    GateMode,
    Placement,
    Precision,
    Sparing,
    Undecided,
)
from enginewright.config.setting import setting
from enginewright.registry import RUNTIMES, OrAuto


@dataclass
class Calibration:
    """Ranges of activations from real images, written to calib.cache."""

    algorithm: CalibrationAlgorithm = setting(
        CalibrationAlgorithm.entropy, help="how the range of a tensor is chosen from its observed values"
    )
    runtime: str = setting(
        "onnxruntime",
        choices=OrAuto(RUNTIMES),
        help="which runtime calibrates: onnxruntime is portable, tensorrt is tied to its version",
    )
    batch_size: int = setting(20, minimum=1, help="images at once; the activations of a batch lie in memory together")
    percentile: float = setting(99.99, above=50, maximum=100, help="of |x|, in percent, for algorithm percentile")
    bins: int = setting(
        2048, minimum=256, help="of the histogram of |x|, for entropy and percentile; entropy compares with 128 levels"
    )
    bias_correction: bool = setting(
        False, help="correct each layer's bias for the mean error of its INT8 weights; needs ONNX Runtime"
    )


@dataclass
class CheckDrift:
    """How far validation images may lie from calibration images before a tensor is flagged."""

    images: int = setting(1000, minimum=1, help="at most so many of each set are looked at")
    saturation_excess: float = setting(
        0.005,
        above=0,
        help="share of values beyond the INT8 range, validation's less calibration's; entropy clips 0.001 itself",
    )
    percentile_ratio: float = setting(1.5, above=1, help="of the 99.99th percentiles of |x|, either way")
    # about a population stability index of 0.25, where credit scoring calls a shift significant
    distance: float = setting(0.2, above=0, help="Jensen-Shannon, base 2, between the histograms of |x|")
    fail: bool = setting(False, help="let the last stage, gate, fail where a tensor is flagged")


@dataclass
class AnalyzeSensitivity:
    """What each layer costs in accuracy when it runs in INT8."""

    batch_size: int = setting(50, minimum=1, help="images at once")
    evaluations: int = setting(
        250, minimum=3, help="the most Q/DQ models that are run; with more layers than that, neighbours go together"
    )
    minutes: Optional[float] = setting(
        None, above=0, help="run only as many models as fit into this time, neighbours together; null: no bound"
    )
    placement: Placement = setting(
        Placement.onnxruntime,
        help="whose INT8 layers are judged by, in search_mixed too; TensorRT's is coarser and slower",
    )


@dataclass
class SearchMixed:
    """Which layers stay in FP16 so that INT8 passes the gate."""

    layers: str = setting(
        "layers/search.yaml",
        help="a file: `layers: search` in it searches, a list of layers (names or patterns) is taken as it is",
    )
    evaluations: int = setting(60, minimum=1, help="the most mixtures that are tried")
    minutes: Optional[float] = setting(
        None, above=0, help="stop the search after this time, with the best mixture so far; null: no bound"
    )
    spare: Sparing = setting(
        Sparing.layers, help="what the search keeps small: layers in FP16, or the values that they move"
    )
    minimum_int8_share: float = setting(
        0.5, minimum=0, maximum=1, help="of Conv, ConvTranspose, Gemm and MatMul that stay in INT8"
    )
    margin: float = setting(
        0.0, minimum=0, maximum=1, help="by how much the metric on the sensitivity images must pass the gate's bound"
    )
    float_operators: list[str] = setting(
        [], help="operators that stay in FP16 wherever they stand, such as Sigmoid or Softmax"
    )


@dataclass
class Accuracy:
    """Validation of every engine on the same images, and the gate for INT8."""

    gated: list[Precision] = setting(
        [Precision.int8_mixed], help="whose failure stops the pipeline; the others are reported"
    )
    batch_size: int = setting(50, minimum=1, help="images at once")
    gate: GateMode = setting(GateMode.relative, help="bound as a share of FP32's metric, or as a loss from it")
    minimum_ratio: float = setting(
        0.99,
        minimum=0,
        maximum=1,
        help="relative gate: the task's metric (top-1, mean IoU, mAP50-95) of INT8 over FP32's",
    )
    maximum_loss: float = setting(0.01, minimum=0, maximum=1, help="absolute gate: FP32's metric less that of INT8")
    confidence: float = setting(
        0.95, above=0, below=1, help="of the paired interval, whose lower limit must reach the bound"
    )
    undecided: Undecided = setting(
        Undecided.fail, help="a gated engine whose interval holds the bound: stop, or report it and go on"
    )
    minimum_sqnr_db: Optional[float] = setting(
        10.0, help="of the outputs against FP32's; at 10 dB a tenth of their power is noise, null asks for none"
    )
    require_signal: bool = setting(
        True, help="FP32 must be better than always giving the commonest answer; without labels, give more than one"
    )
