"""Everything in params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from enginewright.config.data import Data
from enginewright.config.engine import Axis, Build
from enginewright.config.measurement import Benchmark, ProfileLayers
from enginewright.config.model import Export, Model, Train
from enginewright.config.quantization import Accuracy, AnalyzeSensitivity, Calibration, CheckDrift, SearchMixed
from enginewright.config.setting import setting
from enginewright.interface import BATCH, AxisRange
from enginewright.registry import AUTO, RUNTIMES, OrAuto

PARAMS_FILE = Path("params.yaml")


@dataclass
class Params:
    """Everything in params.yaml."""

    enginewright_version: str = setting(
        "", composed="???", help="what conf/selected.yaml was written by; `enginewright upgrade` writes another one"
    )
    experiment: Optional[str] = setting(None, help="which file of conf/experiment/ this is; each names itself")
    selected_for: Optional[str] = setting(
        None, composed="${experiment}", help="the experiment that the choices in conf/selected.yaml were made for"
    )
    seed: int = setting(0, minimum=0, maximum=2**64 - 1, help="of everything that is drawn: images, weights, arrivals")
    runtime: str = setting(
        AUTO, choices=OrAuto(RUNTIMES), help="what builds and runs the engines; auto takes the first that works here"
    )
    axes: dict[str, Axis] = setting(
        {BATCH: Axis(1, 32, 128)},
        help="the sizes of each dynamic axis that model.inputs names: {min: the smallest that engines take, opt: what"
        " they are tuned for, max: the largest}",
    )
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    export: Export = field(default_factory=Export)
    calibration: Calibration = field(default_factory=Calibration)
    check_drift: CheckDrift = field(default_factory=CheckDrift)
    build: Build = field(default_factory=Build)
    analyze_sensitivity: AnalyzeSensitivity = field(default_factory=AnalyzeSensitivity)
    search_mixed: SearchMixed = field(default_factory=SearchMixed)
    accuracy: Accuracy = field(default_factory=Accuracy)
    profile_layers: ProfileLayers = field(default_factory=ProfileLayers)
    benchmark: Benchmark = field(default_factory=Benchmark)


def ranges(axes: Mapping[str, Axis]) -> dict[str, AxisRange]:
    """The range of each axis, as engines are built for. Raises ConfigError where one is not in order."""
    return {name: AxisRange(axis.min, axis.opt, axis.max) for name, axis in axes.items()}


def default_axes() -> dict[str, AxisRange]:
    """The ranges of a configuration that sets none."""
    return ranges(Params().axes)
