"""The architectures: for each the files that a user brings, and the configuration that is all the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OWN = Path(__file__).parent / "own"

RANDOM = "drawn: SQNR says what INT8 costs, the verdict nothing"
TRAINED = "trained by the pipeline"
BEFORE = "trained before"


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
    packages: Sequence[str] = ()  # that must be on the path


def classifier(name: str, title: str, target: str, arguments: str, epochs: int) -> Architecture:
    """An image classifier in PyTorch, which train_reference trains on digits of 64x64."""
    return Architecture(
        name,
        title,
        f"PyTorch, as torchvision's ([{name}.py](../benchmarks/architectures/own/{name}.py))",
        TRAINED,
        f"""\
defaults: [override /model: own]
model:
  name: {name}
  _target_: {name}.{target}
  arguments: {arguments}
  code: {name}.py
  weights: artifacts/reference/weights.pt
  weights_from: training
  input_shape: [3, 64, 64]
data:
  train_images: 2000
  validation_images: 500
  preprocessing: {{channels: rgb, size: [64, 64], resize: 64, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
train: {{epochs: {epochs}, learning_rate: 0.002, minimum_metric: 0.8}}
""",
        {f"{name}.py": f"{name}.py"},
    )


ARCHITECTURES: Sequence[Architecture] = (
    classifier("resnet", "ResNet-18", "ResNet18", "{classes: 10}", 2),
    classifier("mobilenet_v3", "MobileNetV3-small", "MobileNetV3Small", "{classes: 10}", 6),
    classifier("convnext", "ConvNeXt-atto", "ConvNeXt", "{classes: 10}", 4),
    classifier("vit", "ViT, 6 layers of 192", "ViT", "{classes: 10, size: 64, patch: 8}", 8),
    classifier("swin", "Swin, 3 stages of 48 to 192", "Swin", "{classes: 10}", 6),
)
