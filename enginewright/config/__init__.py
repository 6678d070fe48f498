"""The schema of params.yaml: the only place where defaults and ranges are written.

`conf/` composes to params.yaml (`enginewright configure`, `dvc exp run -S`); stages read params.yaml and nothing else.
The dataclasses are not frozen, because OmegaConf 2.3 cannot merge into a frozen structured config (docs/decisions/).
YAML uses the names of Enum members.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Optional

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from enginewright.config import answers as answers
from enginewright.config import plain
from enginewright.config.checks import faults_of
from enginewright.config.choices import (
    QUANTIZED as QUANTIZED,
)
from enginewright.config.choices import (
    CalibrationAlgorithm as CalibrationAlgorithm,
)
from enginewright.config.choices import (
    ChannelOrder as ChannelOrder,
)
from enginewright.config.choices import (
    DataSource as DataSource,
)
from enginewright.config.choices import (
    Driver as Driver,
)
from enginewright.config.choices import (
    GateMode as GateMode,
)
from enginewright.config.choices import (
    InputType as InputType,
)
from enginewright.config.choices import (
    Layout as Layout,
)
from enginewright.config.choices import (
    Placement as Placement,
)
from enginewright.config.choices import (
    Precision as Precision,
)
from enginewright.config.choices import (
    PrecisionMode as PrecisionMode,
)
from enginewright.config.choices import (
    RuntimeName as RuntimeName,
)
from enginewright.config.choices import (
    ScenarioName as ScenarioName,
)
from enginewright.config.choices import (
    Selection as Selection,
)
from enginewright.config.choices import (
    Sparing as Sparing,
)
from enginewright.config.choices import (
    TaskName as TaskName,
)
from enginewright.config.choices import (
    Undecided as Undecided,
)
from enginewright.config.choices import (
    WeightsFrom as WeightsFrom,
)
from enginewright.errors import ConfigError, nearest

PARAMS_FILE = Path("params.yaml")


@dataclass
class Preprocessing:
    """Image file to model input; one declaration for calibration, validation, benchmark and the application."""

    resize: Optional[int] = None  # shorter side in pixels, bilinear with antialiasing; null keeps the size
    crop: list[int] = field(default_factory=lambda: [28, 28])  # height, width of the centre crop in pixels
    channels: ChannelOrder = ChannelOrder.gray
    scale: float = 1 / 255  # applied to uint8 values, before mean and std
    mean: list[float] = field(default_factory=lambda: [0.0])  # a channel each, in units of the scaled values
    std: list[float] = field(default_factory=lambda: [1.0])
    layout: Layout = Layout.nchw


@dataclass
class Data:
    """Disjoint training, calibration, sensitivity and validation images."""

    source: DataSource = DataSource.digits
    root: str = "data/digits"  # the folder that holds the source; DVC hashes it
    train_images: int = 2700
    calibration_pool: int = 1000  # images set apart, from which the calibration images are selected
    calibration_images: int = 500
    # on which layers are ranked and the mixture is searched: neither calibration nor validation
    sensitivity_images: int = 300
    validation_images: int = 1000
    selection: Selection = Selection.stratified
    # of random and stratified; null is `seed`. Other images are drawn, and the sets stay as they are
    selection_seed: Optional[int] = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass
class Model:
    """A PyTorch model: a factory that returns an `nn.Module`, and a state dict for it."""

    name: str = "resnet_reference"
    task: TaskName = TaskName.classification  # what its output means: who judges it, and what it is trained for
    _target_: str = "enginewright.models.resnet.ResNet"
    arguments: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the factory
    code: str = "enginewright/models/resnet.py"  # the file that the factory lives in; DVC hashes it
    weights: str = "artifacts/reference/weights.pt"
    weights_from: WeightsFrom = WeightsFrom.training
    input_name: str = "input"
    output_name: str = "logits"
    input_shape: list[int] = field(default_factory=lambda: [1, 28, 28])  # C, H, W (H, W, C for nhwc), without the batch


@dataclass
class Train:
    """Training of the reference model."""

    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 0.01
    # of the task's figure (top-1, mean IoU) on the validation set; below it the stage fails
    minimum_figure: float = 0.975


@dataclass
class Export:
    """PyTorch to ONNX. TensorRT 8.6 parses opset 17 at most."""

    opset_version: int = 17
    tolerance: float = 1e-4  # largest |PyTorch - ONNX Runtime|, relative to the largest |output|


@dataclass
class Calibration:
    """Ranges of activations from real images, written to calib.cache."""

    algorithm: CalibrationAlgorithm = CalibrationAlgorithm.entropy
    runtime: RuntimeName = (
        RuntimeName.onnxruntime
    )  # who calibrates: onnxruntime is portable, tensorrt is tied to its version
    batch_size: int = 20
    percentile: float = 99.99  # of |x|, for algorithm percentile
    bins: int = 2048  # of the histogram of |x|, for entropy and percentile
    # take off what INT8 weights add to each layer's output on average; needs ONNX Runtime, whoever calibrates
    bias_correction: bool = False


@dataclass
class CheckDrift:
    """How far validation images may lie from calibration images before a tensor is flagged."""

    images: int = 1000  # at most so many of each set are looked at
    # share of validation's values beyond the INT8 range, less that of calibration's; entropy clips 0.001 itself
    saturation_excess: float = 0.005
    percentile_ratio: float = 1.5  # of the 99.99th percentiles of |x|, either way
    # Jensen-Shannon, base 2: about a population stability index of 0.25, where credit scoring calls a shift significant
    distance: float = 0.2
    fail: bool = False  # end the stage where a tensor is flagged


@dataclass
class Profile:
    """Batch sizes of the optimization profile."""

    min: int = 1
    opt: int = 32
    max: int = 128


@dataclass
class Build:
    """ONNX to engine."""

    profile: Profile = field(default_factory=Profile)
    precision_mode: PrecisionMode = PrecisionMode.auto
    input_type: InputType = InputType.float32
    optimization_level: int = 3  # 0 to 5, TensorRT's builder_optimization_level
    workspace_mib: int = 4096  # memory pool WORKSPACE
    tf32: bool = False  # FP32 means FP32
    tactic_sources: Optional[list[str]] = None  # names of trt.TacticSource members; null keeps TensorRT's default
    hardware_compatibility: Optional[str] = None  # name of a trt.HardwareCompatibilityLevel member
    version_compatible: bool = False
    timing_cache: str = ".cache/timing"  # folder, one file per GPU and TensorRT version; never a DVC out
    compute_capabilities: list[str] = field(
        default_factory=lambda: ["8.6", "12.0"]
    )  # TensorRT-RTX builds for these without a GPU


@dataclass
class AnalyzeSensitivity:
    """What each layer costs in accuracy when it runs in INT8."""

    batch_size: int = 50
    # the most Q/DQ models that are run over the sensitivity images: with too many layers, neighbours go together
    evaluations: int = 250
    placement: Placement = (
        Placement.onnxruntime
    )  # whose INT8 layers are judged by, in search_mixed too; TensorRT's is coarser and four times slower here


@dataclass
class SearchMixed:
    """Which layers stay in FP16 so that INT8 passes the gate."""

    layers: str = "layers/search.yaml"  # `layers: search` in that file searches; a list there is taken as it is
    evaluations: int = 60  # the most mixtures that are tried
    spare: Sparing = Sparing.layers  # what the search keeps small: layers in FP16, or the values that they move
    # of Conv, ConvTranspose, Gemm and MatMul: with more of them in FP16 there is little left of INT8
    minimum_int8_share: float = 0.5
    margin: float = 0.0  # by how much the figure on the sensitivity images must pass the gate's bound
    float_operators: list[str] = field(
        default_factory=list
    )  # operators that stay in FP16 wherever they stand, such as Sigmoid or Softmax


@dataclass
class Accuracy:
    """Validation of every engine on the same images, and the gate for INT8."""

    gated: list[Precision] = field(
        default_factory=lambda: [Precision.int8_mixed]
    )  # whose failure stops the pipeline; the others are reported
    batch_size: int = 50
    gate: GateMode = GateMode.relative
    minimum_ratio: float = 0.99  # relative gate: the task's figure (top-1, mean IoU) of INT8 / that of FP32
    maximum_loss: float = 0.01  # absolute gate: that of FP32 - that of INT8
    confidence: float = 0.95  # of the paired interval, whose lower limit must reach the bound
    undecided: Undecided = Undecided.fail  # a gated engine whose interval holds the bound: stop, or report it and go on
    minimum_sqnr_db: Optional[float] = (
        # of the outputs against FP32's, beside the metric: at 10 dB a tenth of their power is noise; null asks for none
        10.0
    )
    # with labels, FP32 must be better than always giving the commonest answer; without, give more than one
    require_signal: bool = True


@dataclass
class ProfileLayers:
    """Time of each layer of each engine."""

    batch_size: int = 32
    runs: int = 50


@dataclass
class ServerLoad:
    """Scenario server: queries of one image, arriving by a Poisson process."""

    queries_per_s: Optional[float] = None  # null searches for the highest rate that holds the bound
    latency_ms: float = 15.0  # the bound, MLPerf's for ResNet-50
    percentile: float = 99.0  # of the queries must keep it
    probe_seconds: float = 2.0  # of each rate that the search tries
    max_batch: int = 8  # queries that have arrived go together, up to so many


@dataclass
class Stability:
    """What a load must keep to be called stable."""

    maximum_drift_percent: float = 5.0  # from start to end, if a test says that there is a trend
    maximum_coefficient_of_variation: float = 0.025  # between windows; trtexec warns beyond 2.5 %
    # throughput of the last minute over that of the first, or of halves of a shorter load
    minimum_last_to_first: float = 0.95
    significance: float = 0.01  # of the trend test


@dataclass
class Benchmark:
    """Steady load on every engine."""

    scenarios: list[ScenarioName] = field(default_factory=lambda: [ScenarioName.single_stream, ScenarioName.offline])
    driver: Driver = Driver.auto
    seconds: float = 10.0  # of steady load for each precision and scenario
    warmup_seconds: float = 1.0  # before each
    window_seconds: float = 1.0  # of the time series
    batch_size: int = 32  # images of a query of offline
    samples_per_query: int = 8  # images of a query of multi_stream
    batch_curve: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32])
    batch_curve_seconds: float = 1.0  # for each batch size
    server: ServerLoad = field(default_factory=ServerLoad)
    stability: Stability = field(default_factory=Stability)


@dataclass
class Params:
    """Everything in params.yaml."""

    seed: int = 0
    runtime: RuntimeName = RuntimeName.auto
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


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is missing or no YAML, holds an interpolation, a key is unknown, a value has the wrong
            type or is out of range.
    """
    try:
        plain.require_plain(path.read_text(encoding="utf-8"), path)
        loaded = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist in {Path.cwd()}; run from the project's root, or write it with `enginewright"
            " configure`"
        ) from None
    except YAMLError as fault:
        raise ConfigError(
            f"{path} is not valid YAML: {' '.join(str(fault).split())}; write it anew with `enginewright configure`"
        ) from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} holds no mapping; write it anew with `enginewright configure`")
    return check(loaded, where=str(path))


def check(composed: DictConfig, where: str) -> Params:
    """Turn a composed configuration into typed parameters.

    Raises:
        ConfigError: with the full key, what it should be, and the nearest valid choice.
    """
    _refuse_unknown_keys(composed, Params, "", where)
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), composed))
    except OmegaConfBaseException as fault:
        reason = str(fault.msg or fault).strip().splitlines()[0]
        choices = re.search(r"expected one of \[(.*)\]", reason)
        value = re.match(r"Invalid value '(\w+)'", reason)
        hint = nearest(value.group(1), choices.group(1).split(", ")) if choices and value else ""
        raise ConfigError(f"{where}: {fault.full_key or 'the configuration'}: {reason}{hint}") from None
    assert isinstance(merged, Params)  # OmegaConf.to_object of a structured Params
    faults = [f"{key}: {fault}" for key, fault in faults_of(merged)]
    if faults:
        raise ConfigError(f"{where}: " + "; ".join(faults))
    return merged


def _refuse_unknown_keys(node: DictConfig, schema: type, prefix: str, where: str) -> None:
    """OmegaConf names the unknown key; only we know the nearest valid one (omegaconf 2.3 does not say)."""
    known = {f.name: f for f in fields(schema)}
    defaults = schema()
    for key in node:
        name = str(key)
        if name not in known:
            raise ConfigError(f"{where}: {prefix}{name} is not a setting{nearest(name, known)}")
        default, value = getattr(defaults, name), node._get_node(key)
        if is_dataclass(default) and not isinstance(value, DictConfig):
            raise ConfigError(
                f"{where}: {prefix}{name} is {value} and must be a section with"
                f" {', '.join(f.name for f in fields(default))}"
            )
        if isinstance(default, list) and not isinstance(value, ListConfig):
            raise ConfigError(f"{where}: {prefix}{name} is {value} and must be a list, such as {default}")
        if is_dataclass(default) and isinstance(value, DictConfig):
            _refuse_unknown_keys(value, type(default), f"{prefix}{name}.", where)
