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
class SensitivityResult(Record):
    """What analyze_sensitivity finds."""

    images: int
    evaluations: int
    layers: int
    blocks: int
    noise_of_all: float  # over the signal, as power, with all layers in INT8
    share_of_noise_of_first: float
    int8: Mapping[str, float]  # the task's metric, agreement and SQNR with all layers in INT8, as far as there are any


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
