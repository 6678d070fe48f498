"""A PyTorch model from its configuration: `_target_` names a factory, `weights` a state dict for what it returns."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

from enginewright import manifest, usercode
from enginewright.config import Model
from enginewright.errors import EnginewrightError, ModelError
from enginewright.layout import Layout, stage_of
from enginewright.models import code
from enginewright.models.weights import read_weights
from enginewright.usercode.faults import told

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_model(model: Model, project: Layout) -> nn.Module:
    """Make the model, load its weights, and set it to eval mode, on the CPU.

    Raises:
        ModelError: the factory cannot be imported or called, or the weights are missing, damaged, or of another model.
        StaleArtifact: weights that the pipeline made were changed since.
    """
    network = make_model(model, project)
    load_weights(network, project.file(model.weights), model)
    return network.eval()


def make_model(model: Model, project: Layout) -> nn.Module:
    """Call the factory `model._target_` with `model.arguments`; modules of the project's own folder can be imported.

    Raises:
        ModelError: it does not import, is no callable, refuses its arguments, returns no module, or lives in a file
            that `model.code` does not name or loads another one, so that DVC would not see its changes.
    """
    from torch import nn

    code.refuse_factories_in_arguments(model.arguments)
    code.refuse_files_in_arguments(model, project, model.arguments)
    factory = find_factory(model, project)
    with code.watching(model, project):
        try:
            network = factory(**copy.deepcopy(dict(model.arguments)))
        except (TypeError, ValueError) as fault:
            raise ModelError(
                f"model._target_ {model._target_} refuses model.arguments {dict(model.arguments)}: {_line(fault)};"
                " change model.arguments"
            ) from fault
        except EnginewrightError:
            raise
        except (Exception, SystemExit) as fault:
            raise ModelError(
                f"model._target_ {model._target_} fails with model.arguments {dict(model.arguments)}: {told(fault)}"
            ) from fault
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"model._target_ {model._target_} returned a {type(network).__name__}; it must return a torch.nn.Module"
        )
    return network


def find_factory(model: Model, project: Layout) -> Callable[..., Any]:
    """Import the factory. Raises ModelError if its path leads nowhere, to no callable, or to code that DVC does not
    see.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import get_object

    root = os.path.abspath(project.root)
    if root not in sys.path:
        sys.path.insert(0, root)  # a stage script has stages/ there, not the project's root
    with code.watching(model, project):
        try:
            factory = get_object(model._target_)
        except (ImportError, ValueError, AttributeError, InstantiationException) as fault:
            raise ModelError(
                f"model._target_ {model._target_} cannot be imported ({_line(fault)}); give package.module.factory as"
                f" seen from {root}"
            ) from None
        if not callable(factory):
            raise ModelError(
                f"model._target_ {model._target_} is a {type(factory).__name__}, not a class or function that returns a"
                " torch.nn.Module"
            )
        _require_code(factory, model, project)  # first, as its sentence is the simpler one
    return cast("Callable[..., Any]", factory)


def _require_code(factory: Callable[..., Any], model: Model, project: Layout) -> None:
    source, root = _source_of(factory, model), project.root.resolve()
    named = usercode.sources(code.code_of(model), project)
    if source and (usercode.covers(named, source) or usercode.is_ours(source)):
        return
    if source is None or usercode.is_standard(source):
        raise ModelError(
            f"model._target_ {model._target_} is of Python's own library and makes no model; name a class or function"
            " of your own, and its file in model.code"
        )
    installed = usercode.is_installed(source, root)
    if not installed or any(path.stem == source.stem and path.is_file() for path in named):  # it is shadowed
        raise ModelError(
            f"model.code is {', '.join(model.own_code) or 'none of yours'}, and model._target_ {model._target_} lives"
            f" in {usercode.shown(source, root)}; add that file to model.code, else DVC would not see its changes"
        )


def _source_of(factory: Callable[..., Any], model: Model) -> Optional[Path]:
    """The file that a factory is written in, or for what has none, such as an instance, that of the module which
    `_target_` names.
    """
    try:
        named = inspect.getsourcefile(inspect.unwrap(factory))
    except TypeError:  # built in, a partial, or an instance with __call__
        module = model._target_
        while module and module not in sys.modules:
            module = module.rpartition(".")[0]
        named = getattr(sys.modules.get(module), "__file__", None)
    return Path(named).resolve() if named else None


def load_weights(network: nn.Module, weights: Path, model: Model) -> None:
    """Load a state dict strictly: every key of the model, and no other. See `weights.read_weights`.

    Raises:
        ModelError: the file is missing or damaged, or its keys or shapes are not the model's, naming the first of them.
        StaleArtifact: weights that the pipeline made were changed since.
    """
    if stage_of(weights) == "train_reference" and weights.exists():
        manifest.verify(weights)
    elif manifest.sidecar(weights).exists() and weights.exists():  # made by a pipeline, and carried here
        manifest.verify_alone(weights)
    wanted = network.state_dict()
    state = read_weights(weights, model, wanted)
    wrong = [key for key, tensor in state.items() if tensor.shape != wanted[key].shape]
    if wrong:
        key = wrong[0]
        shapes = f"{key} is {list(state[key].shape)} in the file and {list(wanted[key].shape)} in the model"
        raise ModelError(
            f"{weights} does not fit {model._target_} with model.arguments {dict(model.arguments)}: {shapes}; change"
            f" model.arguments to what it was saved with{_other_classes(state, wanted, wrong)}"
        )
    for key, tensor in state.items():
        _require_loadable(key, tensor, wanted[key], weights)
    network.load_state_dict(state)


def _require_loadable(key: str, tensor: Tensor, wanted: Tensor, weights: Path) -> None:
    """Refuse numbers that would be taken for others: integers of a quantized model have a scale, which is not here."""
    import torch

    plain = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type != "meta"
    if plain and (tensor.is_floating_point() == wanted.is_floating_point() and not tensor.is_complex()):
        return
    kind = str(tensor.dtype).rpartition(".")[2]
    what = f"{kind} numbers" if plain else f"a tensor that is {_unusual(tensor)}"
    raise ModelError(
        f"{weights} does not fit: {key} holds {what}, and the model has {str(wanted.dtype).rpartition('.')[2]} there;"
        " save the weights of the model before it was quantized or compressed"
    )


def _unusual(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return "quantized"
    return "on the device meta" if tensor.device.type == "meta" else "sparse"


def _other_classes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], wrong: Sequence[str]) -> str:
    """What differs where only the last layer's outputs do: that many classes."""
    sizes = {(tuple(state[key].shape[1:]) == tuple(wanted[key].shape[1:]), state[key].shape[:1]) for key in wrong}
    if len(wrong) > 2 or len(sizes) != 1 or not next(iter(sizes))[0]:
        return ""
    return f": {wrong[0].rpartition('.')[0]} has {state[wrong[0]].shape[0]} outputs there, classes perhaps"


def _line(fault: BaseException) -> str:
    text = " ".join(str(fault).split()) or type(fault).__name__
    return text if len(text) <= 200 else text[:200] + "..."
