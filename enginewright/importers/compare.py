"""A model in ONNX Runtime against the framework that it comes from, on the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

import numpy as np

from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.importers import Imported
from enginewright.interface import BATCH, Interface
from enginewright.runtimes.onnxruntime.session import Purpose, open_session

if TYPE_CHECKING:
    import onnxruntime

BATCHES = (1, 2, 7)  # 1 hides a batch that is baked in, 2 is the batch of the example that is traced, 7 is neither
TRACED_BATCH = 2  # not 1: a trace may treat an axis of one as broadcast (github.com/huggingface/optimum/issues/2219)

# Beyond that share of its largest output, a model in float32 says little, and no comparison can pass it.
MOST_UNSTABLE = 0.01
# ONNX Runtime sums in another order than PyTorch, so its rounding errors are of the same size and not the same.
AS_LARGE = 3.0


@dataclass(frozen=True)
class Judged:
    """How far both are from PyTorch in float64, relative to its largest output."""

    pytorch: float
    onnxruntime: float

    def explains(self, tolerance: float) -> bool:
        """Whether ONNX Runtime is as right as PyTorch in float32, which is itself beyond half of the tolerance."""
        return tolerance / 2 < self.pytorch <= MOST_UNSTABLE and self.onnxruntime <= AS_LARGE * self.pytorch


@dataclass(frozen=True)
class Comparison:
    """The original against ONNX Runtime on the same batches; nothing where there is no original."""

    differences: Mapping[int, float]  # batch size -> largest |PyTorch - ONNX Runtime| / largest |PyTorch|
    # Where PyTorch's own float32 is that far from float64, ONNX Runtime is judged against float64: batch size -> (both,
    # from float64).
    float64: Mapping[int, Judged] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest relative difference over all batch sizes."""
        return max(self.differences.values())

    def excess(self, tolerance: float) -> Optional[int]:
        """The batch size with the largest difference that no instability of float32 explains; None if there is none."""
        beyond = {
            batch: difference
            for batch, difference in self.differences.items()
            if difference > tolerance and not (batch in self.float64 and self.float64[batch].explains(tolerance))
        }
        return max(beyond, key=lambda batch: beyond[batch]) if beyond else None


def compare(
    imported: Imported,
    exported: bytes,
    *,
    seed: int,
    samples: Optional[Feeds] = None,
    tolerance: float = float("inf"),
) -> Comparison:
    """Run the original and ONNX Runtime (CPU) on the same BATCHES of samples.

    Args:
        imported: the original, its interface and what to call it.
        exported: the ONNX.
        seed: of standard normal batches, where there are no samples.
        samples: what the inputs are fed, [n, ...] float32 each; a larger batch repeats them.
        tolerance: where the two differ by more, the original in float64 judges both, if it runs in it and repeats its
            answers.

    Raises:
        ModelError: the ONNX holds a fixed batch, or one of the two gives NaN or infinity.
    """
    session = _session(exported, imported)
    differences: dict[int, float] = {}
    judged: dict[int, Judged] = {}
    for batch in BATCHES:
        feeds = random_feeds(imported.interface, batch, seed) if samples is None else _first(samples, batch)
        expected = None
        if imported.reference is not None:
            expected = _finite(imported.reference.answer(feeds), imported, samples is not None)
        got = _run_onnx(session, feeds, imported, expected)
        if imported.reference is None or expected is None:
            continue
        differences[batch] = _farthest(expected, got)
        if differences[batch] > tolerance and (exact := imported.reference.exact(feeds, expected)) is not None:
            judged[batch] = Judged(_farthest(exact, expected), _farthest(exact, got))
    return Comparison(differences, judged)


def random_feeds(interface: Interface, batch: int, seed: int) -> dict[str, Array]:
    """Standard normal numbers for each input, [batch, ...] float32; another dynamic axis has size 1."""
    generator = np.random.default_rng([seed, batch])
    return {
        spec.name: generator.standard_normal(spec.sizes({BATCH: batch}), dtype=np.float32) for spec in interface.inputs
    }


def require_equal(comparison: Comparison, imported: Imported, tolerance: float) -> None:
    """Hold a comparison to export.tolerance.

    Raises:
        ModelError: naming the batch with the largest difference.
    """
    batch = comparison.excess(tolerance)
    if batch is None:
        return
    judged = comparison.float64.get(batch)
    framework = _framework(imported)
    what = (
        f"{framework} and ONNX Runtime differ on {imported.name} by {comparison.differences[batch]:.1e} of the largest"
        f" output at batch {batch}, over export.tolerance = {tolerance:.1e}"
    )
    if judged is not None and judged.pytorch > tolerance / 2:
        raise ModelError(
            f"{what}; {framework} in float32 is itself {judged.pytorch:.1e} from float64 and ONNX Runtime"
            f" {judged.onnxruntime:.1e}: the model is unstable in float32; rescale what it subtracts or divides, or"
            " raise the tolerance"
        )
    raise ModelError(
        f"{what}; look for operations in {imported.origin} that depend on the data or on random numbers, or raise the"
        " tolerance"
    )


def _first(samples: Feeds, batch: int) -> dict[str, Array]:
    return {name: array[np.arange(batch) % len(array)] for name, array in samples.items()}


def _session(exported: bytes, imported: Imported) -> onnxruntime.InferenceSession:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    try:
        return open_session(exported, Purpose.reference)
    except (faults.Fail, faults.InvalidGraph, faults.NotImplemented) as fault:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the ONNX of {imported.name}: {first_line(fault)}; lower"
            " export.opset_version or upgrade it"
        ) from fault


def _run_onnx(
    session: onnxruntime.InferenceSession, feeds: Feeds, imported: Imported, expected: Optional[Outputs]
) -> dict[str, Array]:
    """What ONNX Runtime answers, finite and in the shapes of `expected`. Raises ModelError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    names, batch = [spec.name for spec in imported.interface.outputs], len(next(iter(feeds.values())))
    try:
        got: dict[str, Array] = dict(zip(names, session.run(names, dict(feeds))))
    except (faults.Fail, faults.InvalidArgument, faults.RuntimeException) as fault:
        raise ModelError(f"{_baked_batch(imported, batch)}: {first_line(fault)}") from fault
    for spec in imported.interface.outputs:
        its = got[spec.name]
        if expected is not None and its.shape != expected[spec.name].shape:
            raise ModelError(
                f"{_baked_batch(imported, batch)}: ONNX Runtime returns {list(its.shape)} and"
                f" {_framework(imported)} {list(expected[spec.name].shape)}"
            )
        if its.shape[:1] != (batch,):
            raise ModelError(f"{_baked_batch(imported, batch)}: ONNX Runtime returns {list(its.shape)}")
    if not all(np.isfinite(its).all() for its in got.values()):
        instead = "" if expected is None else f", and {_framework(imported)} does not"
        raise ModelError(
            f"the ONNX of {imported.name} returns NaN or infinity in ONNX Runtime{instead}; look at the range of its"
            " weights"
        )
    return got


def _framework(imported: Imported) -> str:
    return imported.reference.framework if imported.reference else "the original"


def _distance(expected: Array, got: Array) -> float:
    """The largest difference, relative to the largest value that is expected."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return float(np.abs(expected.astype(np.float64) - got.astype(np.float64)).max(initial=0.0)) / scale


def _farthest(expected: Outputs, got: Outputs) -> float:
    """The largest distance of an output, each relative to its own values."""
    return max(_distance(wanted, got[name]) for name, wanted in expected.items())


def _finite(answer: Outputs, imported: Imported, of_samples: bool) -> Outputs:
    assert imported.reference is not None  # which has answered
    if not all(np.isfinite(its).all() for its in answer.values()):
        fed, else_ = ("images of the data set", " and at data.preprocessing") if of_samples else ("random input", "")
        raise ModelError(
            f"{imported.name} ({imported.origin}) returns NaN or infinity on {fed} in {imported.reference.framework}"
            f" itself; look at {' and '.join(map(str, imported.files)) or imported.origin}{else_}"
        )
    return answer


def _baked_batch(imported: Imported, batch: int) -> str:
    return (
        f"the ONNX of {imported.name} does not take batch {batch}, as a batch of {TRACED_BATCH} is baked into it;"
        f" replace sizes that {imported.origin} computes as Python numbers (`int(x.shape[0])`, `.item()`,"
        f" `view({TRACED_BATCH}, ...)`) by `x.flatten(1)` or -1"
    )


def first_line(fault: BaseException) -> str:
    """What a fault says, without what follows its first line."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__
