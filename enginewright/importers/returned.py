"""What `forward` of a PyTorch model returns, as named tensors."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from enginewright.errors import ModelError

if TYPE_CHECKING:
    import torch


def flattened(returned: Any, name: str = "") -> dict[str, Any]:
    """Return what is returned, by names made of keys and places; None, as optional outputs have, is left out.

    Mappings go by their keys, dataclasses and named tuples by their fields, tuples and lists by their places.
    """
    if returned is None:
        return {}
    if isinstance(returned, Mapping):
        parts = {str(key): value for key, value in returned.items()}
    elif is_dataclass(returned) and not isinstance(returned, type):
        parts = {one.name: getattr(returned, one.name) for one in fields(returned)}
    elif isinstance(returned, (tuple, list)):
        parts = dict(zip(getattr(returned, "_fields", map(str, range(len(returned)))), returned))
    else:
        return {name or "0": returned}
    found: dict[str, Any] = {}
    for key, value in parts.items():
        found.update(flattened(value, f"{name}_{key}" if name else key))
    return found


def picked(returned: Any, outputs: Sequence[str], what: str) -> tuple[torch.Tensor, ...]:
    """Return the tensors that model.outputs names: by their keys where it names keys, else all of them in their order.

    Raises:
        ModelError: naming what the model, called `what`, returns.
    """
    import torch

    found, named = flattened(returned), ", ".join(outputs)
    others = {name: value for name, value in found.items() if not isinstance(value, torch.Tensor)}
    if others or not found:
        kind = type(next(iter(others.values()), returned)).__name__
        raise ModelError(
            f"{what} returns a {kind} and must return a tensor, or tensors in tuples, lists, dictionaries or"
            f" dataclasses; wrap the model so that it returns {named}"
        )
    if set(outputs) <= set(found):
        return tuple(found[name] for name in outputs)
    if len(outputs) != len(found):
        keys = "" if all(name.isdigit() for name in found) else f" ({', '.join(found)})"
        raise ModelError(
            f"{what} returns {len(found)} tensor{'s' if len(found) > 1 else ''}{keys} and model.outputs names"
            f" {len(outputs)} ({named}); name every one in the order in which forward returns them, or some by their"
            " keys"
        )
    return tuple(found.values())


@contextlib.contextmanager
def returning(network: torch.nn.Module, outputs: Sequence[str], what: str, returned: Any) -> Iterator[None]:
    """Let `forward` return what `picked` takes of it, as the exporter takes tensors and flat tuples alone.

    `returned` is what it returned before; where that is such a tuple, nothing changes. The module itself stays the one
    that is traced, since the names of its layers become those of the nodes.
    """
    flat = returned if isinstance(returned, (tuple, list)) else (returned,)
    chosen = picked(returned, outputs, what)
    if len(flat) == len(chosen) and all(one is other for one, other in zip(flat, chosen)):
        yield
        return
    before = network.__dict__.get("forward")
    forward = network.forward

    @functools.wraps(forward)  # torch.export reads the arguments off the signature
    def of_outputs(*given: torch.Tensor) -> Any:
        tensors = picked(forward(*given), outputs, what)
        return tensors if len(tensors) > 1 else tensors[0]

    network.forward = of_outputs
    try:
        yield
    finally:
        if before is None:
            del network.__dict__["forward"]
        else:
            network.forward = before
