"""The model: where it comes from, how the reference one is trained, and how it becomes ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from enginewright.config.choices import LIBRARY_CODE, ContractName, Exporter, WeightsFrom
from enginewright.config.plugins import PluginFiles, TrackedPlugins
from enginewright.config.setting import REQUIRED, setting
from enginewright.interface import TensorSpec
from enginewright.registry import IMPORTERS, TASKS

DTYPES = ("float32", "float16", "float64", "int64", "int32", "bool", "uint8")  # of inputs
MOST_CODE = 4  # entries: dvc.yaml names each, as DVC fills no list in


def composed_code(section: str) -> str:
    """What conf/ holds for `tracked_code`, of the `code` of a section."""
    return "".join(
        f"\n  - ${{oc.select:{section}.code.{place},{LIBRARY_CODE if place else f'${{{section}.code}}'}}}"
        for place in range(MOST_CODE)
    )


def own_code(code: Any) -> list[str]:
    """The user's files and folders in a `code`, a text or a list."""
    named = [code] if isinstance(code, str) else list(code)
    return [path for path in named if path != LIBRARY_CODE]


@dataclass
class Detection:
    """How the outputs of a detector become boxes: task detection alone reads it."""

    contract: Optional[ContractName] = setting(
        None, help="what the outputs mean (docs/detection.md); null takes the only one that their shapes allow"
    )
    confidence: float = setting(0.001, minimum=0, maximum=1, help="boxes with a lower score are dropped")
    iou: float = setting(
        0.7, above=0, maximum=1, help="of two boxes of a class that overlap more, the lower score is dropped"
    )
    detections: int = setting(300, minimum=1, help="the most boxes of an image")
    float_decoding: bool = setting(
        True, help="keep what follows the last layers with weights out of INT8: DFL, Sigmoid, anchors, Concat"
    )


@dataclass
class Input:
    """A tensor that the model takes."""

    shape: list[Any] = setting(REQUIRED, help="such as [batch, 3, height, width]: sizes, and names of axes")
    dtype: str = setting("float32", choices=DTYPES, help="NumPy's name of what an element is")


@dataclass
class Model:
    """A PyTorch model: a factory that returns an `nn.Module`, and a state dict for it."""

    source: str = setting("pytorch", choices=IMPORTERS, help="what the model is, and so who imports it")
    name: str = setting("resnet_reference", help="what reports call the model")
    task: str = setting(
        "classification", choices=TASKS, help="what the output means: who judges it, and what it is trained for"
    )
    _target_: str = setting(
        "enginewright.models.resnet.ResNet", help="class or function that returns a torch.nn.Module"
    )
    arguments: dict[str, Any] = setting({}, help="keyword arguments of the factory")
    code: Any = setting(
        LIBRARY_CODE,
        help=f"file or folder of your model's code, or a list of up to {MOST_CODE}, such as [own_model.py,"
        " ../perception]; DVC hashes them",
    )
    tracked_code: list[str] = setting(
        [LIBRARY_CODE] * MOST_CODE,
        help="filled in from model.code for dvc.yaml: leave it alone",
        composed=composed_code("model"),
    )
    weights: str = setting(
        "artifacts/reference/weights.pt",
        help="a state dict, plain or in a checkpoint (docs/weights.md), or safetensors",
    )
    weights_key: Optional[str] = setting(
        None,
        help="where a checkpoint holds the state dict, such as ema or model.state_dict; null finds the one that fits",
    )
    trust_pickle: bool = setting(
        False, help="load weights that are a pickle of more than tensors, which runs whatever code the file names"
    )
    weights_from: WeightsFrom = setting(WeightsFrom.training, help="who makes the file model.weights")
    path: str = setting(
        LIBRARY_CODE, help="source onnx: the ONNX file, or a folder that holds it and the weights beside it"
    )
    axis_names: dict[str, Any] = setting(
        {},
        help="source onnx: {input: {place: name}} for dynamic axes that the file leaves unnamed, such as {images: {2:"
        " height}}; {images: {0: batch}} frees a batch of 1",
    )
    inputs: dict[str, Input] = setting(
        {},
        help="name: {shape, dtype}, in the order of forward's arguments; an axis is a size, or a name that `axes` gives"
        " a range, and the first is batch",
    )
    outputs: list[str] = setting([], help="names in the order in which forward returns them")
    judged: Optional[str] = setting(
        None, help="the output that classification and segmentation judge; null takes the only one"
    )
    detection: Detection = field(default_factory=Detection)
    plugins: PluginFiles = field(default_factory=PluginFiles)
    tracked_plugins: TrackedPlugins = field(default_factory=TrackedPlugins)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The inputs, in the order of forward's arguments."""
        return specs_of(self.inputs)

    @property
    def own_code(self) -> list[str]:
        """The user's files and folders in `code`."""
        return own_code(self.code)

    @property
    def written_in(self) -> str:
        """Where a sentence tells the user to look."""
        return ", ".join(self.own_code) or self._target_


def specs_of(inputs: Mapping[str, Input]) -> tuple[TensorSpec, ...]:
    """What `Model.inputs` states, in its order."""
    return tuple(TensorSpec(name, np.dtype(its.dtype), tuple(its.shape)) for name, its in inputs.items())


def tracked(code: Any) -> list[str]:
    """What `tracked_code` holds for a `code`, a text or a list: it may be too long."""
    named = [code] if isinstance(code, str) else list(code)
    return [*named, *[LIBRARY_CODE] * (MOST_CODE - len(named))]


@dataclass
class Train:
    """Training of the reference model."""

    epochs: int = setting(12, minimum=1, help="passes over the training images")
    batch_size: int = setting(32, minimum=1, help="images of a step")
    learning_rate: float = setting(0.01, above=0, help="the highest of the schedule")
    minimum_metric: float = setting(
        0.975,
        minimum=0,
        maximum=1,
        help="the stage fails if the task's metric on the validation set (top-1, mean IoU, mAP50-95) is below",
    )


@dataclass
class Export:
    """PyTorch to ONNX."""

    exporter: Exporter = setting(
        Exporter.torchscript,
        help="torchscript traces one run; dynamo captures with torch.export, and writes opset 18 or later",
    )
    opset_version: int = setting(
        17, minimum=13, maximum=20, help="13 brought Q/DQ for each channel; TensorRT 8.6 parses 17 at most"
    )
    tolerance: float = setting(1e-4, above=0, help="largest |PyTorch - ONNX Runtime|, relative to the largest |output|")
