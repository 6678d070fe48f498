"""What a model is tried on: at which sizes of its named axes, and with which numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds
from enginewright.interface import BATCH, Axes, AxisRange, Interface, TensorSpec

BATCHES = (1, 2, 7)  # 1 hides a batch that is baked in, 2 is the batch of the example that is traced, 7 is neither
TRACED_BATCH = 2  # not 1: a trace may treat an axis of one as broadcast (github.com/huggingface/optimum/issues/2219)

Sizes = Mapping[str, int]  # of each named axis


class CannotRun(ModelError):
    """A model does not take its input; `reason` is what it says itself."""

    def __init__(self, sentence: str, reason: str) -> None:
        """`sentence` is the whole one."""
        super().__init__(sentence)
        self.reason = reason

    def at(self, what: str, axis: str, size: int, usual: int) -> ModelError:
        """The fault of a model, called `what`, that runs with the size `usual` of an axis and not with `size`."""
        if axis == BATCH:
            return ModelError(
                f"{what} runs on a batch of {usual} and not on one of {size}: {self.reason}; its batch is fixed:"
                f" replace"
                " that size in `forward` by -1 or `x.flatten(1)`"
            )
        return ModelError(
            f"{what} runs with {axis} {usual} and not with {axis} {size}, which axes.{axis} allows: {self.reason}; take"
            f" the size from the tensor's shape in `forward`, narrow axes.{axis}, or write the size in model.inputs"
        )


@dataclass(frozen=True)
class Case:
    """Sizes at which a model is compared; all but those of the axes in `varied` are the usual ones."""

    sizes: Sizes
    varied: tuple[str, ...]

    @property
    def label(self) -> str:
        """Such as "batch 7", or "height 320, width 320"."""
        return ", ".join(f"{axis} {self.sizes[axis]}" for axis in self.varied or (BATCH,))


def example_sizes(interface: Interface, axes: Axes) -> dict[str, int]:
    """The sizes of the example that is traced: a small batch, and of the other axes what they are tuned for."""
    return {axis: _example(axis, axes[axis]) for axis in interface.axes() if axis in axes}


def _example(axis: str, its: AxisRange) -> int:
    usual = TRACED_BATCH if axis == BATCH else its.opt
    return min(max(usual, its.min, 2), its.max)


def another_size(axis: str, its: AxisRange, usual: int) -> Optional[int]:
    """A size in the range that is not the usual one; None if there is none."""
    near = (usual + 1, usual - 1) if axis == BATCH else (its.min, its.max)
    return next((size for size in near if size != usual and its.min <= size <= its.max), None)


def cases(interface: Interface, axes: Axes, samples: Optional[Feeds]) -> list[Case]:
    """Every case: the batches of BATCHES, and with the smallest of them each other axis, and all of them, at its ends.

    Args:
        interface: of the model.
        axes: the range of each named axis.
        samples: whose own shape is the usual one; without them, the example's is.
    """
    usual = {
        **example_sizes(interface, axes),
        **(interface.sizes({name: array.shape for name, array in samples.items()}) if samples else {}),
    }
    limits = axes.get(BATCH, AxisRange(1, 1, 1))
    batches = [batch for batch in BATCHES if limits.min <= batch <= limits.max] or [limits.min]
    found = [Case({**usual, BATCH: batch}, (BATCH,)) for batch in batches]
    few = {**usual, BATCH: batches[0]}
    others = [axis for axis in interface.axes() if axis != BATCH and axis in axes]
    for axis in others:
        found += [Case({**few, axis: size}, (axis,)) for size in _levels(axes[axis])]
    for smallest in (True, False):
        ends = {axis: axes[axis].min if smallest else axes[axis].max for axis in others}
        found.append(Case({**few, **ends}, tuple(others)))
    once: dict[tuple[tuple[str, int], ...], Case] = {}
    for case in found:
        once.setdefault(tuple(sorted(case.sizes.items())), case)
    return list(once.values())


def _levels(its: AxisRange) -> tuple[int, ...]:
    return its.min, its.opt, its.max


def feeds_at(interface: Interface, sizes: Sizes, seed: int, samples: Optional[Feeds] = None) -> dict[str, Array]:
    """What the inputs are fed at these sizes.

    Args:
        interface: of the model.
        sizes: of each named axis.
        seed: of what is drawn where there are no samples: standard normal numbers, bytes, and integers of 0 and 1,
            which every vocabulary and every mask has.
        samples: [n, ...] of each input; an axis that is longer repeats them, one that is shorter cuts them.
    """
    if samples is not None:
        return {spec.name: _resized(samples[spec.name], spec, sizes) for spec in interface.inputs}
    generator = np.random.default_rng([seed, sizes.get(BATCH, 1)])
    return {spec.name: _drawn(generator, spec.sizes(sizes), spec.dtype) for spec in interface.inputs}


def _resized(values: Array, spec: TensorSpec, sizes: Sizes) -> Array:
    for place, axis in enumerate(spec.shape):
        wanted = (
            sizes.get(axis, values.shape[place]) if isinstance(axis, str) else values.shape[place] if place else axis
        )
        if values.shape[place] != wanted:
            values = np.take(values, np.arange(wanted) % values.shape[place], axis=place)
    return values


def _drawn(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return generator.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)
    return generator.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)


def moved_axes(
    base: Mapping[str, Array], other: Mapping[str, Array], usual: int, size: int
) -> Iterator[tuple[str, int, bool]]:
    """Yield (output, place, whether it equals the axis) of each axis of an output that moves with one of the inputs.

    Args:
        base: the answer at the size `usual`.
        other: the answer at `size`.
        usual: of the axis that was varied.
        size: another one.
    """
    for name, answer in base.items():
        for place, (before, after) in enumerate(zip(answer.shape, other[name].shape)):
            if before != after:
                yield name, place, (before, after) == (usual, size)
