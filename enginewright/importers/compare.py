"""A model in ONNX Runtime against the framework that it comes from, on the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

import numpy as np

from enginewright.config import default_axes
from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.importers import Imported
from enginewright.importers.custom import NO_KERNELS, Kernels
from enginewright.importers.examples import CannotRun, Case, cases, example_sizes, feeds_at
from enginewright.interface import BATCH, Axes
from enginewright.runtimes.onnxruntime.session import Purpose, open_model

if TYPE_CHECKING:
    import onnx
    import onnxruntime

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

    # of each case, such as "batch 7" or "height 320": largest |PyTorch - ONNX Runtime| / largest |PyTorch|
    differences: Mapping[str, float]
    # Where PyTorch's own float32 is that far from float64, ONNX Runtime is judged against float64: case -> (both, from
    # float64).
    float64: Mapping[str, Judged] = field(default_factory=dict)
    not_run: str = ""  # why ONNX Runtime could not be asked, in a sentence

    @property
    def largest(self) -> float:
        """The largest relative difference over all cases."""
        return max(self.differences.values())

    def excess(self, tolerance: float) -> Optional[str]:
        """The case with the largest difference that no instability of float32 explains; None if there is none."""
        beyond = {
            case: difference
            for case, difference in self.differences.items()
            if difference > tolerance and not (case in self.float64 and self.float64[case].explains(tolerance))
        }
        return max(beyond, key=lambda case: beyond[case]) if beyond else None


def compare(  # noqa: PLR0913  each is part of what is compared
    imported: Imported,
    exported: onnx.ModelProto,
    *,
    seed: int,
    axes: Optional[Axes] = None,
    samples: Optional[Feeds] = None,
    tolerance: float = float("inf"),
    kernels: Kernels = NO_KERNELS,
) -> Comparison:
    """Run the original and ONNX Runtime (CPU) on the same samples, at several batches and sizes (`examples.cases`).

    Args:
        imported: the original, its interface and what to call it.
        exported: the ONNX.
        seed: of what is drawn, where there are no samples.
        axes: the range of each named axis; None is the configuration's default.
        samples: what the inputs are fed, [n, ...] each; a larger batch or another axis that is longer repeats them.
        tolerance: where the two differ by more, the original in float64 judges both, if it runs in it and repeats its
            answers.
        kernels: what brings custom operators; where none is for ONNX Runtime, nothing is compared.

    Raises:
        ModelError: the original or the ONNX does not take a size, one of the two gives NaN or infinity, or nothing
            brings a custom operator.
    """
    if reason := kernels.why_not_run(imported.model, imported.name):
        return Comparison({}, not_run=reason)
    axes = default_axes() if axes is None else axes
    session = _session(exported, imported, kernels)
    example = example_sizes(imported.interface, axes)
    differences: dict[str, float] = {}
    judged: dict[str, Judged] = {}
    for case in cases(imported.interface, axes, samples):
        feeds = feeds_at(imported.interface, case.sizes, seed, samples)
        expected = None
        if imported.reference is not None:
            expected = _finite(_answered(imported, feeds, case, example), imported, samples is not None)
        got = _run_onnx(session, feeds, imported, expected, _baked(imported, case, example))
        if imported.reference is None or expected is None:
            continue
        differences[case.label] = _farthest(expected, got)
        if differences[case.label] > tolerance and (exact := imported.reference.exact(feeds, expected)) is not None:
            judged[case.label] = Judged(_farthest(exact, expected), _farthest(exact, got))
    return Comparison(differences, judged)


def _answered(imported: Imported, feeds: Feeds, case: Case, example: Mapping[str, int]) -> Outputs:
    assert imported.reference is not None  # which answers
    try:
        return imported.reference.answer(feeds)
    except CannotRun as fault:
        for axis in case.varied:
            if axis in example and case.sizes[axis] != example[axis]:
                raise fault.at(f"{imported.name} ({imported.origin})", axis, case.sizes[axis], example[axis]) from None
        raise


def require_equal(comparison: Comparison, imported: Imported, tolerance: float) -> None:
    """Hold a comparison to export.tolerance.

    Raises:
        ModelError: naming the case with the largest difference.
    """
    tolerance = max(tolerance, imported.coarseness)
    case = comparison.excess(tolerance)
    if case is None:
        return
    judged = comparison.float64.get(case)
    framework = _framework(imported)
    what = (
        f"{framework} and ONNX Runtime differ on {imported.name} by {comparison.differences[case]:.1e} of the largest"
        f" output at {case}, over export.tolerance = {tolerance:.1e}"
    )
    if judged is not None and judged.pytorch > tolerance / 2:
        raise ModelError(
            f"{what}; {framework} in float32 is itself {judged.pytorch:.1e} from float64 and ONNX Runtime"
            f" {judged.onnxruntime:.1e}: the model is unstable in float32; rescale what it subtracts or divides, or"
            " raise the tolerance"
        )
    sizes = "" if case.startswith(BATCH) else ", on sizes that are computed as Python numbers"
    raise ModelError(
        f"{what}; look for operations in {imported.origin} that depend on the data{sizes} or on random numbers, or"
        f" raise"
        " the tolerance"
    )


def _session(exported: onnx.ModelProto, imported: Imported, kernels: Kernels) -> onnxruntime.InferenceSession:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    try:
        return open_model(exported, Purpose.reference, plugins=kernels.plugins)
    except (faults.Fail, faults.InvalidGraph, faults.NotImplemented) as fault:
        remedy = kernels.blamed(imported.model) or "lower export.opset_version or upgrade it"
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the ONNX of {imported.name}: {first_line(fault)}; {remedy}"
        ) from fault


def _run_onnx(
    session: onnxruntime.InferenceSession, feeds: Feeds, imported: Imported, expected: Optional[Outputs], baked: str
) -> dict[str, Array]:
    """What ONNX Runtime answers, finite and in the shapes of `expected`.

    Raises:
        ModelError: `baked` is its beginning where the size of the example is all that the ONNX takes.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    names, batch = [spec.name for spec in imported.interface.outputs], len(next(iter(feeds.values())))
    try:
        got: dict[str, Array] = dict(zip(names, session.run(names, dict(feeds))))
    except (faults.Fail, faults.InvalidArgument, faults.RuntimeException) as fault:
        raise ModelError(f"{baked}: {first_line(fault)}") from fault
    for spec in imported.interface.outputs:
        its = got[spec.name]
        if expected is not None and its.shape != expected[spec.name].shape:
            raise ModelError(
                f"{baked}: ONNX Runtime returns {list(its.shape)} and"
                f" {_framework(imported)} {list(expected[spec.name].shape)}"
            )
        if its.shape[:1] != (batch,):
            raise ModelError(f"{baked}: ONNX Runtime returns {list(its.shape)}")
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


def _baked(imported: Imported, case: Case, example: Mapping[str, int]) -> str:
    """What to say where the ONNX takes the sizes of the example alone."""
    others = [axis for axis in case.varied if axis != BATCH]
    if not others:
        batch, traced = case.sizes[BATCH], example.get(BATCH, 1)
        return (
            f"the ONNX of {imported.name} does not take batch {batch}, as a batch of {traced} is baked into it;"
            f" replace sizes that {imported.origin} computes as Python numbers (`int(x.shape[0])`, `.item()`,"
            f" `view({traced}, ...)`) by `x.flatten(1)` or -1"
        )
    traced_at = " and ".join(f"{axis} {example.get(axis, case.sizes[axis])}" for axis in others)
    return (
        f"the ONNX of {imported.name} does not take {case.label}, as {traced_at} of the example is baked into it;"
        f" replace sizes that {imported.origin} computes as Python numbers (`int(x.shape[2])`, `.item()`) and constants"
        f" of that size by what follows the tensor's shape, or write the size in model.inputs"
    )


def first_line(fault: BaseException) -> str:
    """What a fault says, without what follows its first line."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__
