"""Random graphs of what real models hold, each well scaled, so that INT8 and FP16 can be judged on it.

`sample(seed)` is the way in: equal seeds give equal graphs. `fuzz_hostile.py` breaks them, `fuzz_trial.py` puts them
through everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from onnx import ModelProto

from support.fuzz_blocks import ELEMENTWISE, SHAPES, Block
from support.fuzz_draft import Array, Draft, Tensor
from support.fuzz_layers import LAYERS, head
from support.reference import simulated, sqnr_db

BATCH = 4
BATCHES = 2
LARGEST, SMALLEST = 300.0, 1e-3  # what |x| of a tensor may be at most, and its mean at least
ROUNDING = 2.0**-11  # of FP16
LEAST_DB = 52.0  # an input off by that must not move the answer further
MOST_VALUES = 1500


@dataclass(frozen=True)
class Sample:
    """A graph, what it is calibrated with and fed, and what float64 says about it."""

    seed: int
    model: ModelProto
    batches: list[dict[str, Array]]
    held: dict[str, Array]  # every tensor over all of `batches`, in float64

    @property
    def feeds(self) -> dict[str, Array]:
        """All batches as one."""
        return {name: np.concatenate([batch[name] for batch in self.batches]) for name in self.batches[0]}


def sample(seed: int) -> Sample:
    """The first well-conditioned graph that this seed leads to."""
    for attempt in range(50):
        drawn = _attempt(seed * 1000 + attempt, seed)
        if drawn is not None:
            return drawn
    raise AssertionError(f"seed {seed} leads to no graph")


def draft(seed: int) -> ModelProto:
    """A graph as it is drawn, however its values are scaled."""
    d = Draft(seed)
    x, steps = d.input, int(d.rng.integers(3, 10))
    while steps > 0:
        made = _block(d)(d, x)
        if made is None or not made.shape or len(made.shape) > 4 or made.size > MOST_VALUES or min(made.shape) < 1:
            if made is None:
                continue
            x, steps = d.pool[-1], steps - 1  # what was made stays behind as a dead end, as it does in files
            continue
        d.pool.append(made)
        x, steps = made, steps - 1
    if not any(node.op_type in ("Conv", "Gemm") for node in d.nodes) or d.chance(
        0.5
    ):  # one that every backend has in INT8
        x = head(d, x)
    return d.model(_outputs(d, x))


def _block(d: Draft) -> Block:
    block: Block = d.pick(d.pick((LAYERS, LAYERS, LAYERS, ELEMENTWISE, ELEMENTWISE, SHAPES, SHAPES)))
    return block


def _outputs(d: Draft, last: Tensor) -> list[Tensor]:
    """The last tensor, at times with others that nodes read too."""
    if last == d.input:
        last = d.node("Identity", [last.name], last.shape)
    others = [tensor for tensor in d.pool[1:] if tensor.name != last.name]
    if others and d.chance(0.25):
        return [last, d.pick(others)] if d.chance(0.8) else [d.pick(others), last]
    return [last]


def _attempt(number: int, seed: int) -> Optional[Sample]:
    model = draft(number)
    random = np.random.default_rng(number)
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    name = model.graph.input[0].name
    batches = [{name: random.standard_normal((BATCH, *shape)).astype(np.float32)} for _ in range(BATCHES)]
    together = {name: np.concatenate([batch[name] for batch in batches])}
    held = simulated(model, together)
    noisy = {name: (together[name] * (1 + ROUNDING * random.standard_normal(together[name].shape))).astype(np.float32)}
    outputs = [output.name for output in model.graph.output]
    if not all(_scaled(held[output]) for output in outputs) or not _within(held):
        return None
    moved = simulated(model, noisy)
    if any(sqnr_db(held[output], moved[output]) < LEAST_DB for output in outputs):
        return None
    return Sample(seed, model, batches, held)


def _scaled(values: Array) -> bool:
    return bool(np.isfinite(values).all()) and float(np.abs(values).mean()) > SMALLEST


def _within(held: dict[str, Array]) -> bool:
    """Whether every tensor is small enough for FP16, but for masks."""
    floats = [values for values in held.values() if values.dtype == np.float64 and values.size > 1]
    return all(np.abs(values[np.isfinite(values) & (values > -9e3)]).max(initial=0.0) < LARGEST for values in floats)
