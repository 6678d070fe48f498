"""What was made of an ONNX file answers as the file does, for a batch as for each row alone: it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.importers.compare import MOST_UNSTABLE, first_line
from enginewright.importers.examples import BATCHES, feeds_at
from enginewright.importers.original import Original, rows_of
from enginewright.interface import BATCH, Axes, AxisRange, Interface
from enginewright.runtimes.onnxruntime.session import Purpose, open_model, refusals

Shapes = Sequence[tuple[int, ...]]  # of one output, at each batch that was run

KEEP_ONE = "set axes.batch={min: 1, opt: 1, max: 1}, or export the model again with a dynamic batch"


class Proof:
    """The comparison of a prepared model with the file that it was made of."""

    def __init__(
        self, original: Original, called: str, tolerance: float, axes: Axes, freed: Sequence[str] = ()
    ) -> None:
        """Compare with an original.

        Args:
            original: the file as it is.
            called: the file, for sentences.
            tolerance: largest difference, relative to the largest value of an output.
            axes: the range of each axis.
            freed: the inputs whose batch of 1 was freed.
        """
        self._original, self._called, self._tolerance = original, called, tolerance
        self._sizes, self._freed = usual_sizes(axes), freed
        its = axes.get(BATCH, AxisRange(1, 1, 1))
        self._batches = [batch for batch in BATCHES if freed or its.min <= batch <= its.max] or [its.min]

    def declare(self, model: onnx.ModelProto) -> None:
        """Run a model, and let its outputs declare, in place, the shapes that they have.

        Raises:
            ModelError: it cannot run, answers otherwise than the file, or the rows of a batch influence each other.
        """
        interface = Interface.from_onnx(model)
        fixed = interface.inputs[0].shape[0]
        batches = (fixed,) if isinstance(fixed, int) else self._batches
        session, most = self._session(model), max(batches)
        fed = feeds_at(interface, {**self._sizes, BATCH: most}, seed=0)
        alone = self._original.answer(fed) if isinstance(fixed, int) else self._by_rows(fed)
        shapes: dict[str, list[tuple[int, ...]]] = {spec.name: [] for spec in interface.outputs}
        for batch in batches:
            feeds = {name: array[:batch] for name, array in fed.items()}
            got = self._run(session, feeds, batch, list(shapes))
            for name, array in got.items():
                shapes[name].append(array.shape)
            expected = {name: array[:batch] for name, array in alone.items()}
            self._hold(expected, got, batch)
        for value in model.graph.output:
            _declare(value, shapes[value.name], fixed == BATCH, moving=bool(self._sizes))

    def _session(self, model: onnx.ModelProto) -> Any:
        try:
            return open_model(model, Purpose.reference)
        except refusals() as fault:
            raise ModelError(
                f"ONNX Runtime does not take what became of {self._called}: {first_line(fault)}; set"
                " export.opset_version to the file's own, or export the model again"
            ) from None

    def _by_rows(self, feeds: Feeds) -> Outputs:
        """What the file answers to each row alone; nothing of an output whose shape depends on the row."""
        rows = [self._original.answer(one) for one in rows_of(feeds)]
        for name, array in rows[0].items():
            if array.ndim == 0 or array.shape[0] != 1:
                others = [other for other, its in rows[0].items() if its.ndim and its.shape[0] == 1]
                remedy = (
                    f"set model.outputs=[{', '.join(others)}]" if others else "export the model with the batch there"
                )
                raise ModelError(
                    f"the output '{name}' of {self._called} is {list(array.shape)} for one row, and its first axis must"
                    f" be the batch; {remedy}"
                )
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0] if _fit(rows, name)}

    def _run(self, session: Any, feeds: Feeds, batch: int, names: Sequence[str]) -> dict[str, Array]:
        try:
            return dict(zip(names, map(np.asarray, session.run(names, dict(feeds)))))
        except refusals() as fault:
            raise self._cannot(batch, first_line(fault)) from None

    def _hold(self, expected: Outputs, got: Outputs, batch: int) -> None:
        """Rows of a batch must be what the row alone is, but for the rounding that the file itself shows."""
        for name, array in got.items():
            wanted = expected.get(name)
            if wanted is None or wanted.shape != array.shape:
                alone = "as many answers as the row has" if wanted is None else str(list(wanted.shape))
                raise self._cannot(batch, f"'{name}' is {list(array.shape)} instead of {alone}")
            apart = distance(wanted, array)
            if apart > self._tolerance and batch == 1:
                raise ModelError(
                    f"'{name}' of what became of {self._called} differs from the file's by {apart:.1e} of its largest"
                    f" value, over {self._tolerance:.1e}; set export.opset_version to the file's own, or raise"
                    " export.tolerance"
                )
            if apart > max(self._tolerance, 0 if self._freed else MOST_UNSTABLE):
                raise self._cannot(batch, f"'{name}' of a row differs by {apart:.1e} from that of the row alone")

    def _cannot(self, batch: int, why: str) -> ModelError:
        if self._freed:
            named = " and ".join(map(repr, self._freed))
            return ModelError(
                f"the batch of 1 in {named} of {self._called} cannot be freed: at batch {batch}, {why}; {KEEP_ONE}"
            )
        if batch == 1:
            return ModelError(f"what became of {self._called} cannot run: {why}; export the model again")
        return ModelError(
            f"{self._called} does not take a batch of {batch} as it takes each row alone, though its batch is dynamic:"
            f" {why}; {KEEP_ONE}"
        )


def usual_sizes(axes: Axes) -> dict[str, int]:
    """What each axis but the batch is tuned for."""
    return {name: its.opt for name, its in axes.items() if name != BATCH}


def distance(expected: Array, got: Array) -> float:
    """The largest difference, relative to the largest value; where both are no number there is none."""
    before, after = expected.astype(np.float64), got.astype(np.float64)
    real = np.isfinite(before)
    if not np.array_equal(real, np.isfinite(after)):
        return float("inf")
    scale = float(np.abs(before[real]).max(initial=0.0)) or 1.0
    return float(np.abs(before[real] - after[real]).max(initial=0.0)) / scale


def decibel(quantized: Outputs, real: Outputs) -> float:
    """The least SQNR of an output of real numbers, in dB."""
    found = []
    for name, signal in real.items():
        if signal.dtype.kind == "f":
            noise = float(np.square(quantized[name].astype(np.float64) - signal).sum())
            power = float(np.square(signal.astype(np.float64)).sum())
            found.append(10 * np.log10(power / noise) if noise and power else float("inf"))
    return min(found, default=float("inf"))


def _fit(rows: Sequence[Outputs], name: str) -> bool:
    """Whether the answers of all rows have one shape."""
    return len({row[name].shape for row in rows}) == 1


def _declare(value: onnx.ValueInfoProto, shapes: Shapes, dynamic: bool, moving: bool) -> None:
    """What an output declares: BATCH first where it is dynamic, then a number where nothing can move it."""
    kind = value.type.tensor_type
    known = [axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim]
    named = [axis.dim_param for axis in kind.shape.dim]
    kind.ClearField("shape")
    kind.shape.SetInParent()
    for place, sizes in enumerate(zip(*shapes)):
        axis = kind.shape.dim.add()
        was = known[place] if len(known) == len(shapes[0]) else None
        if place == 0 and dynamic:
            axis.dim_param = BATCH
        elif len(set(sizes)) == 1 and (was == sizes[0] or not moving):
            axis.dim_value = sizes[0]
        elif len(named) == len(shapes[0]) and named[place] != BATCH:
            axis.dim_param = named[place]
