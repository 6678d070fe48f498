"""What an ONNX file's shapes say of a detector, for `enginewright init --onnx`: its contract, and how it is mostly fed.

Shapes alone decide a contract. Where they leave a choice it is asked for; the graph then hints at one, and no more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np

from enginewright.cli.onnx_input import ImageInput, described
from enginewright.config import ContractName, Layout
from enginewright.errors import ConfigError, nearest
from enginewright.interface import Interface

if TYPE_CHECKING:
    from enginewright.tasks.detection.contracts import Contract

TASK = "detection"
# contract -> the preset with which those who made it feed their models
PRESETS = {"yolo": "ultralytics", "end2end": "ultralytics", "yolox": "yolox", "yolox_raw": "yolox", "detr": "rfdetr"}
# contract -> which layers of such a head to keep in FP16, by the names that its makers' export gives them
PINNED = {
    "yolo": "layers/yolo.yaml",
    "end2end": "layers/yolo.yaml",
    "yolox": "layers/yolox.yaml",
    "yolox_raw": "layers/yolox.yaml",
}
DECODES = "Exp"  # the operator by which YOLOX' logarithms become sizes


@dataclass(frozen=True)
class Detector:
    """What the outputs of a file mean."""

    contract: str
    classes: Optional[int]  # None where the shapes do not say
    preset: str  # how models of this contract are mostly fed
    given: bool  # whether the command line names the contract


def contracts(interface: Interface) -> list[Contract]:
    """The contracts that all outputs of a file may be of; none where it is no detector, or takes no images."""
    from enginewright.tasks.detection.contracts import fitting
    from enginewright.tasks.detection.task import size_of

    takes_images = any(len(spec.shape) == len(("N", "C", "H", "W")) for spec in interface.inputs)
    return fitting(interface.outputs, size_of(interface)) if takes_images else []


def answered(interface: Interface, file: Path, image: Optional[ImageInput]) -> Interface:
    """Put numbers where the file leaves axes of its outputs open, as exporters do beside an open batch: it is run once.

    Args:
        interface: of the file.
        file: the ONNX file.
        image: the input that an image becomes; without one nothing is done.

    Raises:
        ModelError: ONNX Runtime does not run it.
    """
    from enginewright.importers.original import Original

    if image is None or all(isinstance(axis, int) for spec in interface.outputs for axis in spec.shape[1:]):
        return interface
    shape = [image.channels, *image.size] if image.layout is Layout.nchw else [*image.size, image.channels]
    spec = interface.input(image.name)
    found = Original(file, file.name, interface).answer({spec.name: np.zeros((1, *shape), spec.dtype)})
    outputs = tuple(
        replace(own, shape=(*own.shape[:1], *found[own.name].shape[1:])) if own.shape else own
        for own in interface.outputs
    )
    return Interface((replace(spec, shape=(*spec.shape[:1], *shape)),), outputs)


def detector(interface: Interface, operators: Collection[str], asked: Optional[str]) -> Detector:
    """Say what the outputs mean.

    Args:
        interface: of the file, with the outputs that are judged.
        operators: of its graph.
        asked: `--contract`.

    Raises:
        ConfigError: there is no such contract, or the shapes leave a choice.
        ModelError: the outputs are not those of the contract, or of any.
    """
    from enginewright.config import Model
    from enginewright.config.model import Detection
    from enginewright.tasks import task_of
    from enginewright.tasks.detection.task import size_of

    names = [contract.name for contract in ContractName]
    if asked is not None and asked not in names:
        raise ConfigError(f"--contract {asked} is no contract{nearest(asked, names)}")
    named = None if asked is None else ContractName[asked]
    task_of(Model(task=TASK, detection=Detection(contract=named))).check(interface.with_batch(), "the model")
    fits = [contract for contract in contracts(interface) if asked in (None, contract.name)] or _named(asked)
    if len(fits) > 1:
        meanings = "; ".join(f"{contract.name}: {contract.means}" for contract in fits)
        raise ConfigError(
            f"--contract is missing, and the outputs {described(interface.outputs)} may be of several; choose"
            f" {meanings}{_hint(fits, operators)}"
        )
    size = size_of(interface)
    chosen = fits[0].choose(interface.outputs, size) or fits[0].choose(interface.outputs, None) or ()
    classes = fits[0].classes([interface.output(name) for name in chosen])
    return Detector(fits[0].name, classes, PRESETS[fits[0].name], asked is not None)


def _named(asked: Optional[str]) -> list[Contract]:
    """The one asked for, whose shapes fit inputs of another size."""
    from enginewright.tasks.detection.contracts import CONTRACTS

    return [contract for contract in CONTRACTS if contract.name == asked]


def _hint(fits: Collection[Contract], operators: Collection[str]) -> str:
    """YOLOX' exports differ in their decoding alone."""
    if {contract.name for contract in fits} != {"yolox", "yolox_raw"}:
        return ""
    if DECODES in operators:
        return f" (the graph has an operator {DECODES}, as decoding takes it: yolox, most likely)"
    return f" (the graph has no operator {DECODES}, without which nothing decodes sizes: yolox_raw, most likely)"
