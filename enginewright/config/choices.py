"""What a setting of params.yaml may name. YAML uses the names of the members."""

from __future__ import annotations

from enum import Enum

# What stands for code of the library itself, which toolchain.yaml counts, and for nothing at all in a list of DVC's:
# check_toolchain's output, always the same.
LIBRARY_CODE = "artifacts/toolchain/checked.txt"


class Precision(Enum):
    """What an engine computes its convolutions and matrix products in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
    int8_mixed = "int8_mixed"  # INT8 but for the layers of artifacts/mixed/layers.yaml, which stay in FP16


QUANTIZED = (Precision.int8, Precision.int8_mixed)  # what needs the scales of calib.cache, and is judged by the gate


class PrecisionMode(Enum):
    """How TensorRT is told: by builder flags and a calibrator (implicit), or by the ONNX itself (explicit)."""

    auto = "auto"
    implicit = "implicit"
    explicit = "explicit"


class Sparing(Enum):
    """What a mixture keeps small."""

    layers = "layers"  # the number of layers in FP16
    traffic = "traffic"  # the values that layers in FP16 read and write


class Placement(Enum):
    """Whose INT8 a Q/DQ model is for: where the pairs go, and in which type."""

    tensorrt = "tensorrt"  # symmetric int8, zero point 0; weights FP32 -> Q -> DQ; none between Conv and Relu
    # uint8, zero point 0 after Relu, else 128; int8 weights; inputs and outputs of every quantized layer
    onnxruntime = "onnxruntime"


class ScenarioName(Enum):
    """How queries arrive, by MLPerf Inference's names."""

    single_stream = "single_stream"  # one image at a time, the next when it is answered: latency
    multi_stream = "multi_stream"  # so many images a query
    offline = "offline"  # all at once, the device never waits: throughput
    server = "server"  # Poisson arrivals under a latency bound


class Driver(Enum):
    """Who issues the queries: MLPerf LoadGen or this project; `auto` is LoadGen where it is installed."""

    auto = "auto"
    loadgen = "loadgen"
    own = "own"


class InputType(Enum):
    """What a TensorRT engine takes: always float32, or the type that it computes in, which is a half (FP16) or a
    quarter (INT8) of the bytes to copy.
    """

    float32 = "float32"
    native = "native"


class CalibrationAlgorithm(Enum):
    """How the INT8 range of a tensor is chosen from its observed values."""

    entropy = "entropy"
    minmax = "minmax"
    percentile = "percentile"


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
    rgba = "rgba"  # four channels of a PNG, alpha as it is; 255 for images without


class Anchor(Enum):
    """Where the image lies in the input of recipe `letterbox`, or the window in the image of recipe `crop`."""

    centre = "centre"
    top_left = "top_left"


class Rounding(Enum):
    """How recipe `letterbox` makes whole pixels of the resized height and width."""

    nearest = "nearest"  # ultralytics
    down = "down"  # YOLOX, DeepStream
    up = "up"  # PP-OCR


class Interpolation(Enum):
    """How an image is resized."""

    bilinear = "bilinear"
    bicubic = "bicubic"  # with antialiasing alone


class Layout(Enum):
    """Order of the axes of a batch."""

    nchw = "nchw"
    nhwc = "nhwc"


class ContractName(Enum):
    """What the outputs of a detector mean."""

    yolo = "yolo"
    yolox = "yolox"
    yolox_raw = "yolox_raw"
    end2end = "end2end"
    detr = "detr"


class Exporter(Enum):
    """What makes ONNX of a PyTorch model."""

    torchscript = "torchscript"
    dynamo = "dynamo"


class WeightsFrom(Enum):
    """Who makes the file `model.weights`: training here, an installed package, chance (a new model's, drawn from
    `seed`), or the user.
    """

    training = "training"
    package = "package"
    random = "random"
    file = "file"


class GateMode(Enum):
    """`relative`: INT8 >= minimum x FP32; `absolute`: INT8 >= FP32 - maximum loss; both of the interval's lower
    limit.
    """

    relative = "relative"
    absolute = "absolute"


class Undecided(Enum):
    """What becomes of a gated engine whose interval holds the bound: it stops the pipeline, or is only reported."""

    fail = "fail"
    warn = "warn"
