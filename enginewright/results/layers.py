"""Where the time of each engine goes, and what INT8 costs layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from enginewright.config import Precision
from enginewright.results.record import Record
from enginewright.results.shape import SampleShape
from enginewright.results.verdicts import Outcome


@dataclass(frozen=True)
class EngineLayers(Record):
    """The layers of one engine, under the profiler."""

    layers: int
    layer_ms_total: float
    time_share: Mapping[str, float]  # precision that a layer runs in, or "other" -> share of the time
    slowest_layer: str
    slowest_layer_ms: float


@dataclass(frozen=True)
class ProfileResult(Record):
    """What profile_layers finds."""

    batch_size: int
    engines: Mapping[Precision, EngineLayers]
    int8_blocks: Optional[Mapping[str, int]]  # what became of INT8 -> blocks of layers; None without an INT8 engine
    findings: tuple[str, ...]  # which INT8 engines take more time than FP16's
    shape: Optional[SampleShape] = None  # of what the engines were fed


@dataclass(frozen=True)
class DecodingResult(Record):
    """What it is worth to keep the decoding of a detector in float (model.detection.float_decoding)."""

    nodes: int  # that stay in float by the rule
    layers: int  # of these Conv, ConvTranspose, Gemm and MatMul
    share_of_values: float  # that they read and write, of those of all layers and of the decoding
    int8_without: Mapping[str, float]  # as `SensitivityResult.int8`, with the decoding in INT8 too

    def says(self, metric: str, value: float) -> str:
        """The rule and what it gains and costs, in a sentence; `value` is the metric with it."""
        without = self.int8_without.get(metric, float("nan"))
        layers = f"{self.layers} of them {'a layer' if self.layers == 1 else 'layers'}"
        return (
            f"the decoding stays in float (model.detection.float_decoding): {self.nodes} nodes, {layers}, which move"
            f" {self.share_of_values:.1%} of the values; INT8 of the rest has {metric} {value:.4f}, of all"
            f" {without:.4f}"
        )


@dataclass(frozen=True)
class SensitivityResult(Record):
    """What analyze_sensitivity finds."""

    images: int
    evaluations: int
    layers: int
    blocks: int
    noise_of_all: float  # over the signal, as power, with all layers in INT8
    share_of_noise_of_first: float
    int8: Mapping[str, float]  # the task's metric, agreement and SQNR with all layers in INT8, as far as there are any
    decoding: Optional[DecodingResult] = None  # None where nothing stays in float by that rule
    cut_by_minutes: Optional[float] = None  # the budget that put more layers together; another machine may have others


@dataclass(frozen=True)
class MixtureResult(Record):
    """What search_mixed chooses, and what the rehearsed gate says of it."""

    holds: bool
    decidable: bool  # whether so many validation images could pass any engine
    verdict: Outcome
    figure: str
    value: float
    low: float
    bound: float
    validation_images: int
    images: int
    layers: int
    float_layers: int
    int8_share: float
    float_traffic: float  # share of the values moved
    evaluations: int
    pinned: bool  # whether the layers were asked for, and not searched
    # the budget that ended the search before it was done; another machine may choose other layers
    cut_by_minutes: Optional[float] = None
