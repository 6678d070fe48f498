"""The reference weights: trained, unpacked from a package, drawn at random, or the user's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginewright import manifest
from enginewright.config import Model, Params, WeightsFrom
from enginewright.data import ImageSet
from enginewright.errors import GateFailed, ModelError
from enginewright.layout import Layout
from enginewright.models.code import watching
from enginewright.models.loading import find_factory, load_weights, make_model


@dataclass(frozen=True)
class Reference:
    """What train_reference writes, and why it is not good enough, if it is not."""

    path: Path
    content: bytes
    metrics: Mapping[str, Any]
    inputs: Sequence[Path] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    def require(self) -> None:
        """Raise GateFailed if the weights miss `train.minimum_metric`."""
        if self.fault:
            raise GateFailed(self.fault)


def make_reference(params: Params, paths: Layout) -> Reference:
    """Make the weights in the way that `model.weights_from` says.

    Raises:
        ModelError: the model or its weights cannot be used, or `model.weights` lies elsewhere than the weights go.
        DataError, StaleArtifact: the images cannot be used.
    """
    model = params.model
    kind = model.weights_from
    if kind is not WeightsFrom.file and paths.file(model.weights) != paths.reference_weights:
        expected = paths.name(paths.reference_weights)
        raise ModelError(
            f"model.weights_from {kind.name} writes {expected}, and model.weights is {model.weights}; set it to that"
        )
    if kind is WeightsFrom.training:
        return _train(params, paths)
    if kind is WeightsFrom.package:
        return _unpack(model, paths)
    return _draw(model, params.seed, paths) if kind is WeightsFrom.random else _leave(model, paths)


def _train(params: Params, paths: Layout) -> Reference:
    from enginewright.models.objectives import objective_of
    from enginewright.models.training import deterministic, evaluate, state_dict_bytes, train

    started = time.perf_counter()
    training, validation = ImageSet.open(paths.training), ImageSet.open(paths.validation)
    preprocessing, objective = params.data.preprocessing, objective_of(params.model.task)
    with deterministic(params.seed):
        network = make_model(params.model, paths)
        with watching(params.model, paths, stage_reads=True):
            train(network, training, preprocessing, params.train, objective)
            result = evaluate(network, validation, preprocessing, objective)
    metrics = {
        objective.metric: result.metric,
        **({} if result.loss is None else {"loss": result.loss}),
        "epochs": params.train.epochs,
        "training_images": len(training),
        "validation_images": len(validation),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": round(time.perf_counter() - started, 3),
    }
    fault = ""
    if result.metric < params.train.minimum_metric:
        fault = (
            f"{objective.title} {result.metric:.4f} on {len(validation)} validation images is under"
            f" train.minimum_metric {params.train.minimum_metric}; raise train.epochs or data.train_images, or lower"
            f" the bound (figures in {paths.name(paths.metrics_of('train_reference'))})"
        )
    weights = state_dict_bytes(network)
    return Reference(paths.reference_weights, weights, metrics, training.files, fault=fault)


def _unpack(model: Model, paths: Layout) -> Reference:
    """The module of the factory says where its package keeps the weights, and what their sha256 is: DVC does not see
    into packages.
    """
    module = sys.modules[find_factory(model, paths).__module__]
    packaged = getattr(module, "packaged_weights", None)
    if packaged is None:
        raise ModelError(
            f"model.weights_from package needs a function packaged_weights() beside {model._target_}; add it, or set"
            " weights_from to file"
        )
    source = packaged()
    digest, pinned = manifest.sha256(source), getattr(module, "PACKAGED_WEIGHTS_SHA256", None)
    if digest != pinned:
        said = f"and {module.__name__} pins {pinned}; install the package again" if pinned else "which no constant pins"
        raise ModelError(
            f"the packaged weights {source} have the sha256 {digest}, {said}, or write PACKAGED_WEIGHTS_SHA256 ="
            f' "{digest}" into {model.written_in}'
        )
    network = make_model(model, paths)
    load_weights(network, source, model)
    settings = {"package_file": source.name}
    return Reference(paths.reference_weights, source.read_bytes(), _counted(network), settings=settings)


def _draw(model: Model, seed: int, paths: Layout) -> Reference:
    """The weights that the factory gives a new model, drawn from `seed`."""
    from enginewright.models.training import deterministic, state_dict_bytes

    with deterministic(seed):
        network = make_model(model, paths)
    return Reference(paths.reference_weights, state_dict_bytes(network), _counted(network))


def _leave(model: Model, paths: Layout) -> Reference:
    if not paths.file(model.weights).exists():
        raise ModelError(
            f"model.weights {model.weights} does not exist; put the state dict there, or set model.weights to where it"
            " lies"
        )
    note = f"Nothing was trained: the weights are {model.weights} (model.weights_from file).\n"
    return Reference(paths.reference_weights.with_name("README.txt"), note.encode(), {"parameters": 0})


def _counted(network: Any) -> dict[str, int]:
    return {"parameters": sum(parameter.numel() for parameter in network.parameters())}
