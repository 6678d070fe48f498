"""The schema of params.yaml: the one place where a setting's default, range and help are written.

`conf/` composes to params.yaml (`enginewright configure`, `dvc exp run -S`); stages read params.yaml and nothing else.
The dataclasses are not frozen, because OmegaConf 2.3 cannot merge into a frozen structured config (docs/decisions/).
YAML uses the names of Enum members. An application that runs an engine has neither OmegaConf nor PyYAML, so `check` and
`read`, which need them, are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginewright.config.choices import (
    QUANTIZED as QUANTIZED,
    Anchor as Anchor,
    CalibrationAlgorithm as CalibrationAlgorithm,
    ChannelOrder as ChannelOrder,
    ContractName as ContractName,
    Driver as Driver,
    Exporter as Exporter,
    GateMode as GateMode,
    InputType as InputType,
    Interpolation as Interpolation,
    Layout as Layout,
    Placement as Placement,
    Precision as Precision,
    PrecisionMode as PrecisionMode,
    Rounding as Rounding,
    ScenarioName as ScenarioName,
    Selection as Selection,
    Sparing as Sparing,
    Undecided as Undecided,
    WeightsFrom as WeightsFrom,
)
from enginewright.config.data import Data as Data
from enginewright.config.engine import Axis as Axis, Build as Build
from enginewright.config.measurement import (
    Benchmark as Benchmark,
    ProfileLayers as ProfileLayers,
    ServerLoad as ServerLoad,
    Stability as Stability,
)
from enginewright.config.model import (
    DTYPES as DTYPES,
    Export as Export,
    Input as Input,
    Model as Model,
    Train as Train,
)
from enginewright.config.params import (
    PARAMS_FILE as PARAMS_FILE,
    Params as Params,
    default_axes as default_axes,
    ranges as ranges,
)
from enginewright.config.preprocessing import Preprocessing as Preprocessing
from enginewright.config.quantization import (
    Accuracy as Accuracy,
    AnalyzeSensitivity as AnalyzeSensitivity,
    Calibration as Calibration,
    CheckDrift as CheckDrift,
    SearchMixed as SearchMixed,
)

if TYPE_CHECKING:
    from enginewright.config.reading import check as check, read as read


def __getattr__(name: str) -> object:
    if name not in ("check", "read"):
        raise AttributeError(f"module 'enginewright.config' has no attribute '{name}'")
    from enginewright.config import reading

    return getattr(reading, name)
