"""A network against its ONNX, without tracing it again."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import onnx
from torch import nn

from enginewright.config import Model
from enginewright.feeds import Feeds
from enginewright.importers import Imported
from enginewright.importers.compare import Comparison, compare
from enginewright.importers.pytorch import Network
from enginewright.interface import Interface


def imported(network: nn.Module, exported: bytes, model: Model) -> Imported:
    """What the importer would give, had it traced the network to this ONNX."""
    found = onnx.load_model_from_string(exported)
    interface = Interface.from_onnx(found).with_batch()
    files = Path(model.code), Path(model.weights)
    return Imported(model.name, model.code, found, interface, files, Network(network, model))


def compared(
    network: nn.Module,
    exported: bytes,
    model: Model,
    *,
    samples: Optional[Feeds] = None,
    tolerance: float = float("inf"),
) -> Comparison:
    """`compare` with seed 0."""
    original = imported(network, exported, model)
    return compare(original, original.model, seed=0, samples=samples, tolerance=tolerance)
