"""The schema of params.yaml: the only place where defaults and ranges are written.

`conf/` composes to params.yaml (`enginewright configure`, `dvc exp run -S`); stages read params.yaml and nothing else.
The dataclasses are not frozen, because OmegaConf 2.3 cannot merge into a frozen structured config (docs/decisions/).
YAML uses the names of Enum members.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from enginewright.errors import ConfigError, nearest

PARAMS_FILE = Path("params.yaml")


class RuntimeName(Enum):
    """Backends by the module in `enginewright.runtimes` that owns them; `auto` takes the first that can do the task."""

    auto = "auto"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"
    onnxruntime = "onnxruntime"
    null = "null"


class Precision(Enum):
    """What an engine computes its convolutions and matrix products in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class PrecisionMode(Enum):
    """How TensorRT is told: by builder flags and a calibrator (implicit), or by the ONNX itself (explicit)."""

    auto = "auto"
    implicit = "implicit"
    explicit = "explicit"


class InputType(Enum):
    """What a TensorRT engine takes: always float32, or the type that it computes in, which is a half (FP16) or a quarter (INT8) of the bytes to copy."""

    float32 = "float32"
    native = "native"


class CalibrationAlgorithm(Enum):
    """How the INT8 range of a tensor is chosen from its observed values."""

    entropy = "entropy"
    minmax = "minmax"
    percentile = "percentile"


class DataSource(Enum):
    """Where labelled images come from; `enginewright.data.sources` has one function for each."""

    digits = "digits"
    fashion_mnist = "fashion_mnist"
    photographs = "photographs"
    image_folder = "image_folder"


class Selection(Enum):
    """How calibration images are picked from their pool."""

    random = "random"
    stratified = "stratified"
    coverage = "coverage"


class ChannelOrder(Enum):
    """Order of the colour channels that the model was trained with."""

    gray = "gray"
    rgb = "rgb"
    bgr = "bgr"


class Layout(Enum):
    """Order of the axes of a batch."""

    nchw = "nchw"
    nhwc = "nhwc"


class WeightsFrom(Enum):
    """Who makes the file `model.weights`: training here, an installed package, or the user."""

    training = "training"
    package = "package"
    file = "file"


class GateMode(Enum):
    """`relative`: INT8 >= minimum x FP32; `absolute`: INT8 >= FP32 - maximum loss."""

    relative = "relative"
    absolute = "absolute"


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
    """Disjoint training, calibration and validation images."""

    source: DataSource = DataSource.digits
    root: str = "data/digits"  # the folder that holds the source; DVC hashes it
    train_images: int = 3000
    calibration_pool: int = 1000  # images set apart, from which the calibration images are selected
    calibration_images: int = 500
    validation_images: int = 1000
    selection: Selection = Selection.stratified
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass
class Model:
    """A PyTorch model: a factory that returns an `nn.Module`, and a state dict for it."""

    name: str = "resnet_reference"
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
    minimum_top1: float = 0.975  # on the validation set; below it the stage fails


@dataclass
class Export:
    """PyTorch to ONNX. TensorRT 8.6 parses opset 17 at most."""

    opset_version: int = 17
    tolerance: float = 1e-4  # largest |PyTorch - ONNX Runtime|, relative to the largest |output|


@dataclass
class Calibration:
    """Ranges of activations from real images, written to calib.cache."""

    algorithm: CalibrationAlgorithm = CalibrationAlgorithm.entropy
    runtime: RuntimeName = RuntimeName.onnxruntime  # who calibrates: onnxruntime is portable, tensorrt is tied to its version
    batch_size: int = 20
    percentile: float = 99.99  # of |x|, for algorithm percentile
    bins: int = 2048  # of the histogram of |x|, for entropy and percentile


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
    compute_capabilities: list[str] = field(default_factory=lambda: ["8.6", "12.0"])  # TensorRT-RTX builds for these without a GPU


@dataclass
class Accuracy:
    """Validation of every engine on the same images, and the gate for INT8."""

    batch_size: int = 50
    gate: GateMode = GateMode.relative
    minimum_ratio: float = 0.99  # relative gate: top-1 of INT8 / top-1 of FP32
    maximum_loss: float = 0.01  # absolute gate: top-1 of FP32 - top-1 of INT8
    confidence: float = 0.95  # of the paired interval of the difference in top-1


@dataclass
class ProfileLayers:
    """Time of each layer of each engine."""

    batch_size: int = 32
    runs: int = 50


@dataclass
class Benchmark:
    """Steady load on every engine."""

    seconds: float = 20.0  # of steady load for each precision
    warmup_seconds: float = 2.0
    window_seconds: float = 1.0  # of the time series
    batch_size: int = 1
    batch_curve: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32])
    batch_curve_seconds: float = 1.0  # for each batch size


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
    build: Build = field(default_factory=Build)
    accuracy: Accuracy = field(default_factory=Accuracy)
    profile_layers: ProfileLayers = field(default_factory=ProfileLayers)
    benchmark: Benchmark = field(default_factory=Benchmark)


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, a value has the wrong type or is out of range.
    """
    try:
        loaded = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist in {Path.cwd()}; run from the project's root, or write it with `enginewright configure`") from None
    except YAMLError as fault:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(fault).split())}; write it anew with `enginewright configure`") from None
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
    faults = [f"{key}: {fault}" for key, fault in _faults(merged)]
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
            raise ConfigError(f"{where}: {prefix}{name} is {value} and must be a section with {', '.join(f.name for f in fields(default))}")
        if isinstance(default, list) and not isinstance(value, ListConfig):
            raise ConfigError(f"{where}: {prefix}{name} is {value} and must be a list, such as {default}")
        if is_dataclass(default) and isinstance(value, DictConfig):
            _refuse_unknown_keys(value, type(default), f"{prefix}{name}.", where)


def _faults(params: Params) -> list[tuple[str, str]]:
    """Values out of range and combinations that cannot work, as (key, what is wrong and what to do)."""
    found: list[tuple[str, str]] = []

    def need(key: str, holds: bool, fault: str) -> None:
        if not holds:
            found.append((key, fault))

    data, build, profile = params.data, params.build, params.build.profile
    for key, count in {
        "data.train_images": data.train_images + 1,  # 0 images is right where nothing is trained
        "data.calibration_images": data.calibration_images,
        "data.validation_images": data.validation_images,
        "train.epochs": params.train.epochs,
        "train.batch_size": params.train.batch_size,
        "calibration.batch_size": params.calibration.batch_size,
        "build.profile.min": profile.min,
        "build.workspace_mib": build.workspace_mib,
        "accuracy.batch_size": params.accuracy.batch_size,
        "profile_layers.batch_size": params.profile_layers.batch_size,
        "profile_layers.runs": params.profile_layers.runs,
        "benchmark.batch_size": params.benchmark.batch_size,
    }.items():
        need(key, count >= 1, f"{count} is too small, it must be at least 1")
    for key, seconds in {
        "benchmark.seconds": params.benchmark.seconds,
        "benchmark.window_seconds": params.benchmark.window_seconds,
        "benchmark.batch_curve_seconds": params.benchmark.batch_curve_seconds,
        "train.learning_rate": params.train.learning_rate,
        "export.tolerance": params.export.tolerance,
        "data.preprocessing.scale": data.preprocessing.scale,
    }.items():
        need(key, math.isfinite(seconds) and seconds > 0, f"{seconds} must be a positive number")
    need("benchmark.warmup_seconds", params.benchmark.warmup_seconds >= 0, "must not be negative")
    need(
        "data.calibration_images",
        data.calibration_images <= data.calibration_pool,
        f"{data.calibration_images} images are asked for and data.calibration_pool sets {data.calibration_pool} apart; raise the pool or ask for fewer",
    )
    need("export.opset_version", 13 <= params.export.opset_version <= 20, "must be 13 (per-channel Q/DQ) to 20; TensorRT 8.6 parses 17 at most")
    need("calibration.percentile", 50 < params.calibration.percentile <= 100, "is a percentage, over 50 and at most 100")
    need("calibration.bins", params.calibration.bins >= 256, "must be at least 256: entropy compares with 128 quantized levels")
    need("build.profile", profile.min <= profile.opt <= profile.max, f"min {profile.min} <= opt {profile.opt} <= max {profile.max} does not hold")
    need("build.optimization_level", 0 <= build.optimization_level <= 5, f"{build.optimization_level} is not in 0 to 5")
    for capability in build.compute_capabilities:
        need("build.compute_capabilities", re.fullmatch(r"\d+\.\d", capability) is not None, f"'{capability}' is not like 8.6")
    for key, ratio in {
        "accuracy.minimum_ratio": params.accuracy.minimum_ratio,
        "accuracy.maximum_loss": params.accuracy.maximum_loss,
        "train.minimum_top1": params.train.minimum_top1,
    }.items():
        need(key, 0 <= ratio <= 1, f"{ratio} is a fraction, 0 to 1")
    need("accuracy.confidence", 0 < params.accuracy.confidence < 1, f"{params.accuracy.confidence} is a fraction, over 0 and under 1")
    for key, batch in {
        "accuracy.batch_size": params.accuracy.batch_size,
        "profile_layers.batch_size": params.profile_layers.batch_size,
        "benchmark.batch_size": params.benchmark.batch_size,
        "benchmark.batch_curve": max(params.benchmark.batch_curve, default=profile.min),
    }.items():
        need(key, batch <= profile.max, f"{batch} is over build.profile.max = {profile.max}; raise the profile or lower the batch")
    need("benchmark.batch_curve", all(batch >= profile.min for batch in params.benchmark.batch_curve), f"holds a batch under build.profile.min = {profile.min}")
    found.extend(_preprocessing_faults(data.preprocessing, params.model))
    return found


def _preprocessing_faults(preprocessing: Preprocessing, model: Model) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    channels = 1 if preprocessing.channels is ChannelOrder.gray else 3
    if len(preprocessing.crop) != 2 or min(preprocessing.crop) < 1:
        return [("data.preprocessing.crop", f"{preprocessing.crop} is not [height, width] in pixels")]
    for name, values in {"mean": preprocessing.mean, "std": preprocessing.std}.items():
        if len(values) != channels:
            found.append((f"data.preprocessing.{name}", f"has {len(values)} values for {channels} channels ({preprocessing.channels.name})"))
    if any(value <= 0 for value in preprocessing.std):
        found.append(("data.preprocessing.std", "holds a value that is not positive"))
    shape = [channels, *preprocessing.crop] if preprocessing.layout is Layout.nchw else [*preprocessing.crop, channels]
    if shape != model.input_shape:
        found.append(("model.input_shape", f"{model.input_shape} is not what data.preprocessing makes, {shape}; change one of the two"))
    return found
