from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from enginewright.calibration.entropy import entropy_range
from enginewright.calibration.histogram import SMALLEST_EXPONENT, Magnitudes

FLOATS = arrays.arrays(np.float32, st.integers(0, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(batches=st.lists(FLOATS, max_size=6), bins=st.integers(128, 300))
def test_the_counts_are_those_of_numpy_over_the_final_range_whatever_the_order(
    batches: list[npt.NDArray[np.float32]], bins: int
) -> None:
    forwards, backwards = Magnitudes(bins), Magnitudes(bins)
    for batch in batches:
        forwards.add(batch)
    for batch in reversed(batches):
        backwards.add(batch)
    values = np.abs(np.concatenate([np.zeros(0, np.float32), *batches]))
    assert forwards.amax == values.max(initial=0.0)
    assert forwards.counts.sum() == values.size
    np.testing.assert_array_equal(forwards.counts, backwards.counts)
    edges = forwards.edges()
    for edge in edges[1:-1][:: max(1, edges.size // 8)]:
        if edge < forwards.amax:
            below = int(np.searchsorted(edges, edge, side="right")) - 1
            assert forwards.counts[:below].sum() == np.count_nonzero(values.astype(np.float64) < edge)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(values=FLOATS.filter(lambda values: values.size > 0), percent=st.floats(50, 100))
def test_a_percentile_is_numpys_up_to_the_width_of_a_bin(values: npt.NDArray[np.float32], percent: float) -> None:
    seen = Magnitudes(512)
    seen.add(values)
    exact = float(np.percentile(np.abs(values.astype(np.float64)), percent, method="inverted_cdf"))
    width = max(seen.amax, 2.0**SMALLEST_EXPONENT) / 512  # below that, no bin is narrower
    assert exact <= seen.percentile(percent) <= exact + width


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1.0] * 100, id="constant"),
        pytest.param([1.0, np.nextafter(np.float32(1), np.float32(2))] * 50, id="one rounding apart"),
        pytest.param([1e-44] * 10, id="subnormal"),
        pytest.param([np.finfo(np.float32).max], id="the largest float"),
        pytest.param([2.0**-140] * 10, id="a power of two that float32 cannot scale"),
    ],
)
def test_a_tensor_of_nearly_one_value_gets_that_value_for_its_range(values: list[float]) -> None:
    seen = Magnitudes(2048)
    seen.add(np.asarray(values, np.float32))
    assert seen.percentile(99.99) == seen.amax == np.float32(max(values))
    if seen.amax > 1e-30:  # under that the scale is that of zeros
        assert entropy_range(seen.counts, seen.edges()) == seen.amax


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_float_type_is_counted(kind: type[np.floating[npt.NBitBase]]) -> None:
    seen = Magnitudes(128)
    seen.add(np.asarray([[0.5, -2.0], [0.0, 1.9999999999999998]], kind))
    assert seen.counts.sum() == 4
    assert seen.amax == 2.0


def test_memory_does_not_depend_on_how_narrow_the_first_batch_is() -> None:
    peaks = []
    for first in (1.0, 1e-6, 1e-30):
        tracemalloc.start()
        seen = Magnitudes(2048)
        seen.add(np.linspace(0.99, 1, 8, dtype=np.float32) * np.float32(first))
        seen.add(np.full(8, 50, np.float32))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 2 * min(peaks) < 1 << 20


def test_a_tensor_without_values_or_of_zeros_has_the_range_zero() -> None:
    seen = Magnitudes(128)
    seen.add(np.zeros((0, 3), np.float32))
    assert seen.percentile(99.0) == 0.0
    seen.add(np.zeros(5, np.float32))
    assert seen.percentile(99.0) == seen.amax == 0.0
