"""Weights as people save them: a state dict, plain or nested in a checkpoint, with the prefixes that wrappers leave.

The rule (docs/weights.md): of all state dicts in the file, and of each with the prefixes PREFIXES removed from all of
its keys, the one that has exactly the model's keys is loaded. Where several have them, nothing is guessed.
"""

from __future__ import annotations

import itertools
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from enginewright.config import Model
from enginewright.errors import ModelError, nearest
from enginewright.models.formats import SAVE, Format, format_of
from enginewright.usercode.faults import told

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]

# under which Lightning, timm, ultralytics, basicsr and the tutorials nest a state dict, at most two deep
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "ema", "params")
# what DataParallel, Lightning and torch.compile put before every key, alone or one behind the other
PREFIXES = ("module.", "model.", "_orig_mod.")
COUNTER = "num_batches_tracked"  # of BatchNorm, which no prediction reads; older PyTorch and other tools lack it
SAFETENSORS = "pip install safetensors"
BY_HAND = "torch.load(path, weights_only=False)"


@dataclass(frozen=True)
class Fit:
    """A state dict with exactly the model's keys, and what was done for it."""

    state: State
    key: str  # where it lies in the file, such as `ema.state_dict`; empty at the top
    prefix: str  # removed from every key
    counters: int  # of COUNTER, added
    ignored: tuple[str, ...]  # keys of the file that are not of the model, where a prefix tells them apart

    def says(self) -> str:
        """What was done, in words; empty if the file holds the state dict as it is."""
        done = [f"takes the state dict under '{self.key}'"] if self.key else []
        done += [f"removes '{self.prefix}' from its keys"] if self.prefix else []
        done += [f"ignores {_some(self.ignored)}, outside that prefix"] if self.ignored else []
        done += [f"starts {self.counters} missing {COUNTER} at 0"] if self.counters else []
        return " and ".join(done)


def read_weights(path: Path, model: Model, wanted: State) -> State:
    """Read a state dict with exactly the keys of `wanted`, the model's own.

    Nothing in the file runs, unless it is a pickle and `model.trust_pickle` is set.

    Raises:
        ModelError: the file is missing, damaged, or of another kind; it needs a pickle to be trusted; no state dict in
            it has the model's keys, or several have.
    """
    content = read(path, model.trust_pickle)
    found = state_dicts(content)
    if model.weights_key is not None and model.weights_key not in found:
        raise ModelError(
            f"{path} holds no state dict under model.weights_key '{model.weights_key}'"
            f"{nearest(model.weights_key, filter(None, found))}"
        )
    if not found:
        raise ModelError(f"{path} holds a {type(content).__name__} that is not a state dict; write it with {SAVE}")
    if model.weights_key is not None:
        found = {model.weights_key: found[model.weights_key]}
    fits = [fit for key, state in found.items() for fit in _fits(key, state, wanted)]
    fits = fits[:1] if _all_equal(fits) else fits
    if not fits:
        raise _unfit(path, model, max(found.items(), key=lambda item: len(set(item[1]) & set(wanted))), wanted)
    if len(fits) > 1:
        raise _ambiguous(path, fits)
    if said := fits[0].says():
        print(f"model.weights {path}: {said}", file=sys.stderr)
    return fits[0].state


def read(path: Path, trust_pickle: bool = False) -> Any:
    """Read what a file of weights holds, on the CPU. Raises ModelError. See `read_weights`."""
    return _safetensors(path) if format_of(path) is Format.safetensors else _torch(path, trust_pickle)


def state_dicts(content: Any) -> dict[str, State]:
    """The state dicts in what a file holds: where each lies -> names and tensors."""
    return dict(_state_dicts(content, ()))


def _state_dicts(content: Any, place: tuple[str, ...]) -> Iterator[tuple[str, State]]:
    from torch import Tensor, nn

    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping):
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield ".".join(place), tensors
    for wrapper in WRAPPERS if len(place) < 2 else ():
        yield from _state_dicts(content.get(wrapper), (*place, wrapper))


def _safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as fault:
        raise ModelError(
            f"{path} is a safetensors file, and safetensors cannot be imported ({fault}); {SAFETENSORS}"
        ) from None
    try:
        loaded: State = load_file(path, device="cpu")
    except SafetensorError as fault:
        raise ModelError(f"{path} is a damaged safetensors file ({_line(fault)}); copy it again") from None
    return loaded


def _torch(path: Path, trust_pickle: bool) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as fault:
        raise _more_than_tensors(path, fault) from None
    except (ImportError, AttributeError) as fault:  # of a trusted pickle alone
        raise ModelError(
            f"{path} is a pickle that needs code which is not here ({_line(fault)}); make that importable from the"
            f" project's root, or keep the weights alone where it is: torch.save({BY_HAND}.state_dict(), 'weights.pt')"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, IndexError) as fault:
        raise ModelError(
            f"{path} is damaged or not a PyTorch file ({_line(fault)}); copy it again, or remove it and train again"
        ) from None
    except (Exception, SystemExit) as fault:  # of the code that a trusted pickle names
        raise ModelError(f"{path} cannot be loaded: code that it names fails with {told(fault)}") from fault


def _more_than_tensors(path: Path, fault: BaseException) -> ModelError:
    named = re.search(r"GLOBAL ([\w.]+)", str(fault))
    what = f"more than tensors ({named.group(1)})" if named else "more than tensors"
    return ModelError(
        f"{path} is a pickle that holds {what}, and loading such a file runs whatever code it names; if you trust who"
        f" wrote it, set model.trust_pickle=true, or keep the weights alone, where that code is: {SAVE}"
    )


def _fits(key: str, state: State, wanted: State) -> Iterator[Fit]:
    """The ways in which a state dict has exactly the keys of the model, each prefix once."""
    for prefix in _prefixes():
        inside = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
        missing = [name for name in wanted if name not in inside]
        if any(name not in wanted for name in inside) or any(not name.endswith(COUNTER) for name in missing):
            continue
        if not any(not name.endswith(COUNTER) for name in inside):
            continue
        ignored = tuple(name for name in state if not name.startswith(prefix))
        counters = {name: wanted[name].new_zeros(wanted[name].shape) for name in missing}
        yield Fit({**inside, **counters}, key, prefix, len(counters), ignored)


def _prefixes() -> Iterator[str]:
    """No prefix, each alone, and two or three different ones behind each other."""
    for count in range(len(PREFIXES) + 1):
        for chosen in itertools.permutations(PREFIXES, count):
            yield "".join(chosen)


def _all_equal(fits: list[Fit]) -> bool:
    """Whether all hold the same numbers, so that it does not matter which is taken."""
    import torch

    return bool(fits) and all(
        torch.equal(tensor, other.state[name]) for other in fits[1:] for name, tensor in fits[0].state.items()
    )


def _ambiguous(path: Path, fits: list[Fit]) -> ModelError:
    keys = list(dict.fromkeys(fit.key for fit in fits))
    if len(keys) > 1:
        choices = ", ".join(f"'{key}'" for key in keys if key)
        return ModelError(
            f"{path} holds {len(keys)} state dicts that fit the model and differ; choose one with model.weights_key:"
            f" {choices}"
        )
    prefixes = ", ".join(f"'{fit.prefix}'" for fit in fits)
    return ModelError(f"{path} holds the model's weights under the prefixes {prefixes}; save one of them alone: {SAVE}")


def _unfit(path: Path, model: Model, closest: tuple[str, State], wanted: State) -> ModelError:
    key, state = closest
    missing, unexpected = [name for name in wanted if name not in state], [name for name in state if name not in wanted]
    common = _common_prefix(state, wanted)
    hint = (
        f"every key begins with '{common}', which only stays on a part of a larger model: save that part alone"
        if common
        else "give the factory and arguments that it was saved from"
    )
    under = f" (under '{key}')" if key else ""
    return ModelError(
        f"{path}{under} does not fit {model._target_}:"
        f" {_listed('lacks', missing)}{_listed('has unknown', unexpected)}{hint}"
    )


def _common_prefix(state: State, wanted: State) -> Optional[str]:
    """A prefix of all keys, other than PREFIXES, behind which they are the model's."""
    first = next(iter(state))
    for name in wanted:
        prefix = first[: -len(name)] if first.endswith(f".{name}") else ""
        if prefix and all(key.startswith(prefix) and key[len(prefix) :] in wanted for key in state):
            return prefix
    return None


def _listed(what: str, keys: list[str]) -> str:
    return f"it {what} {_some(keys)}; " if keys else ""


def _some(keys: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{', '.join(keys[:3])}{more}"


def _line(fault: BaseException) -> str:
    text = " ".join(str(fault).split()) or type(fault).__name__
    return text if len(text) <= 200 else text[:200] + "..."
